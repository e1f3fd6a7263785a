"""Records to bytes and back, and bytes that are no records."""

from __future__ import annotations

import random
import struct

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.codec.records import FLAG_SKIPPABLE, decode_records, encode_records
from headrace.model.errors import FormatNewer, LogCorrupt
from headrace.model.records import Record, TimePassed
from tests.unit.codec.record_samples import RECORD_SAMPLES

HEADER = struct.Struct("<IBBH")
BODY = encode_records(RECORD_SAMPLES)
COUNT = len(RECORD_SAMPLES)


def raw(number: int, version: int = 1, flags: int = 0, body: bytes = b"\x90") -> bytes:
    return HEADER.pack(len(body), number, version, flags) + body


def test_every_record_survives_the_round_trip() -> None:
    assert decode_records(BODY, COUNT) == RECORD_SAMPLES


@given(st.lists(st.sampled_from(RECORD_SAMPLES), max_size=8))
def test_any_sequence_survives_the_round_trip(turn: list[Record]) -> None:
    assert decode_records(encode_records(turn), len(turn)) == turn


@pytest.mark.parametrize(("number", "version"), [(24, 1), (255, 1), (0, 1), (2, 2)])
def test_unknown_type_or_version_stops_the_reader(number: int, version: int) -> None:
    with pytest.raises(FormatNewer, match=f"type {number}, version {version}"):
        decode_records(raw(number, version), 1)


def test_unknown_type_that_may_be_skipped_keeps_its_place() -> None:
    """Indexes are counted by position: a skipped record must still be one."""
    body = encode_records([TimePassed(5)]) + raw(200, 3, FLAG_SKIPPABLE, b"anything")

    assert decode_records(body, 2) == [TimePassed(5), TimePassed(0)]


def test_unknown_flags_of_a_known_record_are_passed_over() -> None:
    body = msgspec.msgpack.encode([5, 0])

    assert decode_records(raw(2, 1, 1, body), 1) == [TimePassed(5)]


@pytest.mark.parametrize("count", [COUNT - 1, COUNT + 1, 0])
def test_count_that_does_not_fit_is_corruption(count: int) -> None:
    with pytest.raises(LogCorrupt, match="holds"):
        decode_records(BODY, count)


def test_body_cut_at_any_byte_is_corruption() -> None:
    for length in range(len(BODY)):
        with pytest.raises((LogCorrupt, FormatNewer)):
            decode_records(BODY[:length], COUNT)


def test_record_of_the_wrong_shape_is_corruption_that_names_its_type() -> None:
    for body in (b"\x90", b"\xc0", b"\x92\xa1x\xa1y", b"\xc1", b"\x92\xa1\xff\x00"):
        with pytest.raises(LogCorrupt, match="type 2 is not well formed"):
            decode_records(raw(2, body=body), 1)


def test_deep_nesting_is_corruption_and_no_crash() -> None:
    body = b"\x93\x05\x00" + b"\x91" * 100_000 + b"\xc0"
    with pytest.raises(LogCorrupt):
        decode_records(raw(2, body=body), 1)


@settings(max_examples=300)
@given(seed=st.integers(min_value=0))
def test_damaged_bodies_are_refused_or_decode_to_records(seed: int) -> None:
    """Nothing but a stop code comes out of bytes that checksums did not catch."""
    dice = random.Random(seed)
    body = bytearray(BODY)
    for _ in range(dice.randint(1, 6)):
        place = dice.randrange(len(body))
        choice = dice.randrange(4)
        if choice == 0:
            body[place] ^= 1 << dice.randrange(8)
        elif choice == 1:
            del body[place : place + dice.randint(1, 9)]
        elif choice == 2:
            body[place:place] = dice.randbytes(dice.randint(1, 9))
        else:
            body[place] = dice.choice((0x00, 0x7F, 0xC0, 0xC1, 0xDD, 0xFF))
    try:
        found = decode_records(bytes(body), COUNT)
    except (LogCorrupt, FormatNewer):
        return
    assert all(isinstance(record, Record) for record in found)


@settings(max_examples=200)
@given(st.binary(max_size=200), st.integers(0, 5))
def test_random_bytes_are_refused_or_decode_to_records(body: bytes, count: int) -> None:
    try:
        found = decode_records(body, count)
    except (LogCorrupt, FormatNewer):
        return
    assert len(found) == count
