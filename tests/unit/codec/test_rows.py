"""Snapshot rows to blocks and back, and blocks that are none."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.codec.rows import decode_rows, encode_rows
from headrace.model.errors import LogCorrupt
from headrace.model.rows import Row
from tests.unit.codec.record_samples import ROW_SAMPLES

SAMPLES: list[Any] = ROW_SAMPLES
BLOCK = encode_rows(SAMPLES)


def test_every_row_survives_the_round_trip() -> None:
    assert decode_rows(BLOCK) == SAMPLES
    assert decode_rows(encode_rows([])) == []


def test_unknown_row_is_refused() -> None:
    with pytest.raises(LogCorrupt, match="not well formed"):
        decode_rows(b"\x91\x92\x63\x00")


def test_block_cut_at_any_byte_is_refused() -> None:
    for length in range(len(BLOCK)):
        with pytest.raises(LogCorrupt):
            decode_rows(BLOCK[:length])


def test_deep_nesting_is_refused_and_no_crash() -> None:
    with pytest.raises(LogCorrupt):
        decode_rows(b"\x91" * 100_000 + b"\xc0")


@settings(max_examples=300)
@given(seed=st.integers(min_value=0))
def test_damaged_blocks_are_refused_or_decode_to_rows(seed: int) -> None:
    dice = random.Random(seed)
    block = bytearray(BLOCK)
    for _ in range(dice.randint(1, 6)):
        place = dice.randrange(len(block))
        if dice.random() < 0.7:
            block[place] = dice.randrange(256)
        else:
            del block[place : place + dice.randint(1, 9)]
    try:
        found = decode_rows(bytes(block))
    except LogCorrupt:
        return
    assert all(isinstance(row, Row) for row in found)
