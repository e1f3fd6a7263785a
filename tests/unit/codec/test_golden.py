"""The wire format as it was released: numbers, fields, codes and whole frames."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.codec.messages import MESSAGES, decode_body
from headrace.model import errors, handshake
from headrace.model.errors import StopError
from headrace.protocol.framing import HEADER, HEADER_BYTES, PREAMBLE, FrameReader
from tests.unit.codec.wire_samples import (
    REGISTRY,
    SAMPLES,
    VECTORS,
    frame_of,
    lost,
    meaning,
    registry,
    structs,
)
from tests.unit.codec.wire_spec import SPEC, rows_of_spec, rows_of_struct

RELEASED: dict[str, Any] = json.loads(REGISTRY.read_text(encoding="utf-8"))
ERRORS_MD = Path(__file__).resolve().parents[3] / "spec/errors.md"
HINT = "run: python -m tests.unit.codec.wire_samples"


def vector(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def test_nothing_released_is_removed_renumbered_or_reordered() -> None:
    assert lost(RELEASED, registry()) == []


def test_everything_that_exists_is_registered() -> None:
    assert registry() == RELEASED, HINT


def test_every_type_number_has_a_vector() -> None:
    assert {type(message) for message in SAMPLES.values()} == set(MESSAGES.values())


def test_every_vector_file_is_listed() -> None:
    files = {path.stem for path in VECTORS.glob("*.json")} - {"registry"}

    assert files == set(RELEASED["vectors"])


@pytest.mark.parametrize("change", ["renumber", "reorder", "drop_code", "drop_field"])
def test_the_guard_sees_each_kind_of_change(change: str) -> None:
    """A guard that cannot fail guards nothing."""
    current = json.loads(json.dumps(registry()))
    if change == "renumber":
        current["types"]["0x10"] = "Claim"
    elif change == "reorder":
        current["fields"]["NewJob"].reverse()
    elif change == "drop_code":
        current["codes"].remove("stale_lease")
    else:
        current["fields"]["Hello"].pop()

    assert len(lost(RELEASED, current)) == 1


@pytest.mark.parametrize("name", RELEASED["vectors"])
def test_frame_decodes_to_its_meaning(name: str) -> None:
    expected = vector(name)
    frame = bytes.fromhex(expected["frame"])
    length, type_number, flags, request_id = HEADER.unpack_from(frame)
    message = decode_body(type_number, frame[HEADER_BYTES:])

    assert (length, flags) == (len(frame) - 4, 0)
    assert (type_number, request_id) == (expected["type"], expected["request_id"])
    assert type(message).__name__ == expected["message"]
    assert expected["body"].items() <= meaning(message).items()


@pytest.mark.parametrize("name", RELEASED["vectors"])
def test_meaning_encodes_to_its_frame(name: str) -> None:
    """Until a field is appended: then the new, longer frame gets a sample of its own."""
    assert vector(name)["frame"] == frame_of(SAMPLES[name]).hex()


@pytest.mark.parametrize("name", RELEASED["vectors"])
def test_unknown_trailing_fields_are_ignored(name: str) -> None:
    frame = bytes.fromhex(vector(name)["frame"])
    fields = msgspec.msgpack.decode(frame[HEADER_BYTES:])
    known = [*fields, *_missing(name, fields), {"from": ["a", "later"]}, 7]

    assert decode_body(vector(name)["type"], msgspec.msgpack.encode(known)) == SAMPLES[name]


def _missing(name: str, fields: list[Any]) -> list[Any]:
    return [getattr(SAMPLES[name], each) for each in SAMPLES[name].__struct_fields__[len(fields) :]]


@pytest.mark.parametrize("kind", structs(), ids=lambda kind: kind.__name__)
def test_missing_trailing_fields_take_their_default(kind: type[msgspec.Struct]) -> None:
    """Of every field with a default, however many are left out."""
    fields = msgspec.structs.fields(kind)
    required = [field for field in fields if field.required]
    first_optional = len(required)

    assert all(field.required for field in fields[:first_optional])
    samples = [each for each in SAMPLES.values() if type(each) is kind]
    for sample in samples:
        values = msgspec.msgpack.decode(msgspec.msgpack.encode(sample))
        for kept in range(first_optional, len(values)):
            short = msgspec.msgpack.encode(values[:kept])
            found = msgspec.msgpack.Decoder(kind).decode(short)
            for field in fields[kept:]:
                default = (
                    field.default_factory() if field.default is msgspec.NODEFAULT else field.default
                )
                assert getattr(found, field.name) == default


def error_classes() -> list[type[errors.HeadraceError]]:
    found, waiting = [], [errors.HeadraceError]
    while waiting:
        kind = waiting.pop()
        waiting.extend(kind.__subclasses__())
        if kind.__module__ == errors.__name__:
            found.append(kind)
    return found


def rows_of(title: str) -> dict[str, list[str]]:
    """First cell → the others, of the table under `## title` in spec/errors.md."""
    text = ERRORS_MD.read_text(encoding="utf-8").partition(f"## {title}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    return {row[0].strip().strip("`"): [cell.strip() for cell in row[1:]] for row in rows}


def test_errors_md_has_every_code_and_no_other() -> None:
    assert set(rows_of("Codes")) == set(errors.codes())


def test_errors_md_tells_outcome_and_family_of_each_code() -> None:
    for code, (_, _, retryable, outcome, _) in rows_of("Codes").items():
        kind = errors.codes()[code]

        assert outcome.strip("`") == kind.outcome, code
        if issubclass(kind, errors.Unavailable):
            assert retryable.startswith("yes"), code
        elif issubclass(kind, errors.ClientError):
            assert retryable == "no", code


def test_errors_md_has_every_stop_code_with_its_exit_code() -> None:
    expected = {
        kind.stop_code: str(kind.exit_code)
        for kind in error_classes()
        if issubclass(kind, StopError) and kind is not StopError
    }

    assert {code: row[0] for code, row in rows_of("Stop codes").items()} == expected


def test_tables_of_the_spec_are_those_of_the_program() -> None:
    assert rows_of_spec() == {kind.__name__: rows_of_struct(kind) for kind in structs()}


def test_spec_names_each_message_with_its_number() -> None:
    headings = re.findall(r"^### 0x(\w\w) .*`(\w+)`$", SPEC.read_text("utf-8"), re.MULTILINE)

    assert {int(number, 16): name for number, name in headings} == {
        number: kind.__name__ for number, kind in MESSAGES.items()
    }


def test_exchange_of_the_spec_is_what_it_says() -> None:
    section = SPEC.read_text("utf-8").partition("## 11.")[2].partition("## 12.")[0]
    blocks = [_bytes_of(block) for block in re.findall(r"```\n(.*?)```", section, re.DOTALL)]
    stream = b"".join(blocks)[len(PREAMBLE) :]
    frames = [
        (kind, request_id, decode_body(kind, body))
        for kind, request_id, body in FrameReader().frames(memoryview(stream))
    ]

    assert blocks[0][:4] == PREAMBLE
    assert frames == [
        (0x01, 1, handshake.Hello(client_name="demo")),
        (0x10, 2, SAMPLES["enqueue"]),
        (0x81, 2, SAMPLES["enqueued"]),
    ]


def _bytes_of(block: str) -> bytes:
    """Pairs of hex digits at the start of each line; two blanks and a word begin a comment."""
    pairs = [re.match(r"(?: *[0-9a-f]{2}\b)*", line) for line in block.splitlines()]
    return bytes.fromhex("".join(found[0] for found in pairs if found))
