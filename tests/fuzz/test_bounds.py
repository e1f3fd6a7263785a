"""What a parser may hold and how long it may work, by counting, never by a clock."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from headrace.codec.messages import MESSAGES, TYPE_NUMBERS, decode_body, encode_body
from headrace.codec.records import RECORDS, decode_records
from headrace.codec.rows import decode_rows
from headrace.model.commands import Claim, Enqueue, Nack, NewJob
from headrace.model.errors import HeadraceError
from headrace.model.handshake import Hello
from headrace.model.job import JobSpec
from headrace.model.limits import FRAME_BYTES_MAX, HELLO_BYTES_MAX
from headrace.model.replies import JobPage
from headrace.protocol import framing
from headrace.protocol.connection import ServerConnection
from headrace.protocol.framing import HEADER, PREAMBLE
from proof.fuzz.arcs import lines_run
from proof.fuzz.frames import Frame
from proof.fuzz.judging import bounded_memory
from proof.fuzz.target import ALLOCATION_FACTOR, linear
from proof.fuzz.targets.wire import open_server

CLAIMS = (
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdc\xff\xff",
)
DEPTHS = (b"\x91" * 60_000, b"\x81\xa1k" * 20_000, b"\xdc\xff\xff" * 20_000)


def held_bytes(call: Callable[[], Any]) -> int:
    """What `call` held at its peak, whatever became of it."""
    tracemalloc.start(1)
    try:
        call()
    except HeadraceError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak


def claims() -> list[bytes]:
    """Arrays of up to 40 fields, one of which says that it is huge."""
    huge = [b"\xdc\x00\x28" + b"\x90" * before + claim for before in range(12) for claim in CLAIMS]
    deep = [b"\xdc\x00\x28" + b"\x90" * before + depth for before in range(12) for depth in DEPTHS]
    return huge + deep


@pytest.mark.parametrize("number", MESSAGES)
def test_message_that_claims_to_be_huge_is_not_believed(number: int) -> None:
    with bounded_memory():
        for body in claims():
            assert held_bytes(lambda body=body: decode_body(number, body)) <= linear(body)


def test_record_and_row_that_claim_to_be_huge_are_not_believed() -> None:
    with bounded_memory():
        for body in claims():
            for number in RECORDS:
                record = len(body).to_bytes(4, "little") + bytes([number, 1, 0, 0]) + body
                assert held_bytes(lambda record=record: decode_records(record, 1)) <= linear(body)
            for tag in range(1, 8):
                row = b"\x91\xdc\x00\x28" + bytes([tag]) + body[3:]
                assert held_bytes(lambda row=row: decode_rows(row)) <= linear(body)


@pytest.mark.parametrize("length", [HELLO_BYTES_MAX + 1, FRAME_BYTES_MAX, 1 << 31, (1 << 32) - 1])
def test_stranger_cannot_reserve_memory_by_a_length(length: int) -> None:
    server = ServerConnection()
    data = PREAMBLE + HEADER.pack(length, 1, 0, 1)
    assert held_bytes(lambda: list(server.receive(memoryview(data)))) < 64 * 1024
    assert server.is_closed


def test_unfinished_frame_holds_what_has_come_and_no_more() -> None:
    server = open_server()
    data = HEADER.pack(FRAME_BYTES_MAX, 0x10, 0, 1) + bytes(100)
    assert held_bytes(lambda: list(server.receive(memoryview(data)))) < 64 * 1024
    assert server.unfinished_bytes == len(data)


DENSE = {
    "specs with a policy of defaults": (Enqueue, b"\x92%s\x90", b"\x94\xa0\xa0\xa0\x90"),
    "short texts": (Claim, b"\x92%s\x90", b"\xa2\xc4\x80"),
    "failures without words": (Nack, b"\x91%s", b"\x93\xc4\x00\x00\x91\xa0"),
    "job views of defaults": (JobPage, b"\x93\x00\x00%s", b"\x98\xc4\x00\xa0\xa0" + bytes(5)),
}
"""Inputs whose every byte becomes as much as it can: type, what surrounds the array, item."""


@pytest.mark.parametrize("name", DENSE)
def test_densest_messages_stay_within_the_factor(name: str) -> None:
    kind, around, item = DENSE[name]
    count = 50_000
    body = around % (b"\xdd" + count.to_bytes(4, "big") + item * count)
    held = held_bytes(lambda: decode_body(TYPE_NUMBERS[kind], body))

    assert 10 * len(body) < held <= ALLOCATION_FACTOR * len(body)


# --- work


class CountingBytes(bytearray):
    """Counts every byte that is put into one of them."""

    copied = 0

    def __init__(self, data: Any = b"") -> None:
        super().__init__(data)
        CountingBytes.copied += len(self)

    def __iadd__(self, data: Any) -> CountingBytes:
        CountingBytes.copied += len(data)
        super().__iadd__(data)
        return self


def counted_server(monkeypatch: pytest.MonkeyPatch) -> ServerConnection:
    """Open; what its reader keeps is counted from here on."""
    server = open_server()
    monkeypatch.setattr(framing, "bytearray", CountingBytes, raising=False)
    CountingBytes.copied = 0
    return server


def fed_byte_by_byte(monkeypatch: pytest.MonkeyPatch, payload_bytes: int) -> tuple[int, int]:
    """(lines run, bytes copied) for one frame that comes in single bytes."""
    job = NewJob(bytes(16), 0, bytes(payload_bytes))
    frame = Frame(0x10, 1, encode_body(Enqueue([JobSpec("q", "k")], [job]))).encoded()
    taken: list[Any] = []

    def feed() -> None:
        for at in range(len(frame)):
            taken.extend(server.receive(memoryview(frame)[at : at + 1]))

    with monkeypatch.context() as patched:
        server = counted_server(patched)
        lines = lines_run(("headrace/protocol",), feed)
    assert len(taken) == 1
    return lines, CountingBytes.copied


def test_frame_that_comes_byte_by_byte_costs_no_more_than_twice_for_twice_its_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines, copied = fed_byte_by_byte(monkeypatch, 4_000)
    twice_lines, twice_copied = fed_byte_by_byte(monkeypatch, 8_000)

    assert twice_lines < 2.1 * lines
    assert twice_copied < 2.1 * copied
    assert copied < 2 * 5_000


def test_many_frames_in_one_read_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = Frame(0x58, 7, b"\x90").encoded()
    server = counted_server(monkeypatch)
    assert len(list(server.receive(memoryview(frame * 1_000)))) == 1_000
    assert CountingBytes.copied == 0


def test_counting_sees_a_reader_that_copies_what_it_has() -> None:
    """The check of the work can fail: this one joins what it kept with every byte."""

    def quadratic(size: int) -> int:
        CountingBytes.copied = 0
        rest = CountingBytes()
        for _ in range(size):
            rest = CountingBytes(bytes(rest) + b"x")
        return CountingBytes.copied

    assert quadratic(2_000) > 3 * quadratic(1_000)


def test_hello_is_the_only_message_before_welcome_and_small() -> None:
    """A stranger costs at most a HELLO, however it is made."""
    hello = encode_body(Hello(features=tuple("f" * 20_000)))
    server = ServerConnection()
    data = PREAMBLE + Frame(1, 1, hello).encoded()
    assert held_bytes(lambda: list(server.receive(memoryview(data)))) <= linear(data)
