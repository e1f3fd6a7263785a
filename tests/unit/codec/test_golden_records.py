"""The formats on disk as they were released: numbers, fields, order and whole bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.codec.records import RECORDS, decode_records, encode_records
from headrace.codec.rows import decode_rows, encode_rows
from headrace.model.records import TimePassed
from tests.unit.codec.record_samples import (
    RECORD_SAMPLES,
    RECORD_VECTORS,
    REGISTRY,
    ROW_SAMPLES,
    ROW_VECTORS,
    lost,
    registry,
    structs,
)
from tests.unit.codec.record_spec import tables_of
from tests.unit.codec.wire_spec import rows_of_spec, rows_of_struct

SPEC = Path(__file__).resolve().parents[3] / "spec"
HINT = "run: python -m tests.unit.codec.record_samples"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_nothing_released_is_removed_renumbered_or_reordered() -> None:
    assert lost(read(REGISTRY), registry()) == []


def test_everything_is_in_the_registry() -> None:
    assert read(REGISTRY) == registry(), HINT


def test_every_record_and_row_has_a_sample() -> None:
    assert {type(record) for record in RECORD_SAMPLES} == set(RECORDS.values())
    assert {type(row).__name__ for row in ROW_SAMPLES} == set(registry()["rows"].values())


@pytest.mark.parametrize("record", RECORD_SAMPLES, ids=lambda record: type(record).__name__)
def test_released_record_decodes_to_what_it_meant(record: Any) -> None:
    encoded = bytes.fromhex(read(RECORD_VECTORS)[type(record).__name__])

    assert decode_records(encoded, 1) == [record]
    assert encode_records([record]) == encoded


@pytest.mark.parametrize("position", range(len(ROW_SAMPLES)))
def test_released_row_decodes_to_what_it_meant(position: int) -> None:
    encoded = bytes.fromhex(read(ROW_VECTORS)[position])
    row: Any = ROW_SAMPLES[position]

    assert decode_rows(encoded) == [row]
    assert encode_rows([row]) == encoded


def test_reader_knows_trailing_fields_neither_too_many_nor_too_few() -> None:
    """Appended fields are passed over, and missing ones have their defaults."""
    decoder = msgspec.msgpack.Decoder(TimePassed)

    assert decoder.decode(msgspec.msgpack.encode([5])) == TimePassed(5, 0)
    assert decoder.decode(msgspec.msgpack.encode([5, 1, "later"])) == TimePassed(5, 1)


@pytest.mark.parametrize("kind", structs(), ids=lambda kind: kind.__name__)
def test_document_shows_every_field_of_every_struct(kind: type[Any]) -> None:
    shown = {
        **rows_of_spec(),
        **tables_of(SPEC / "snapshot-format.md"),
        **tables_of(SPEC / "records.md"),
    }

    assert shown.get(kind.__name__) == rows_of_struct(kind)


def test_document_shows_the_number_of_every_record() -> None:
    text = (SPEC / "records.md").read_text(encoding="utf-8")
    missing = [
        f"{number} {kind.__name__}"
        for number, kind in RECORDS.items()
        if f"### {number} `{kind.__name__}`" not in text
    ]

    assert missing == []
