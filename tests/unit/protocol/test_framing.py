"""Bytes to frames: every vector whole, byte by byte, cut, with junk, and damaged."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model.errors import BadRequest, FrameTooLarge, HeadraceError, Unsupported
from headrace.model.limits import FRAME_BYTES_MAX, WRITE_CHUNK_BYTES
from headrace.model.replies import Done, JobReply, JobView
from headrace.protocol.framing import HEADER, FrameReader, FrameWriter
from tests.unit.codec.wire_samples import REGISTRY, VECTORS

NAMES: list[str] = json.loads(REGISTRY.read_text(encoding="utf-8"))["vectors"]
Found = tuple[int, int, bytes]


def vector(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def frame(name: str) -> bytes:
    return bytes.fromhex(vector(name)["frame"])


def read(reader: FrameReader, *pieces: bytes) -> list[Found]:
    """All frames, each piece in a shared buffer that is overwritten afterwards."""
    found: list[Found] = []
    shared = bytearray(1 << 16)
    for piece in pieces:
        shared[: len(piece)] = piece
        view = memoryview(shared)[: len(piece)]
        found += [(kind, request_id, bytes(body)) for kind, request_id, body in reader.frames(view)]
        shared[: len(piece)] = b"\xee" * len(piece)
    return found


def expected(name: str) -> Found:
    return vector(name)["type"], vector(name)["request_id"], frame(name)[12:]


@pytest.mark.parametrize("name", NAMES)
def test_frame_is_found_whole(name: str) -> None:
    assert read(FrameReader(), frame(name)) == [expected(name)]


@pytest.mark.parametrize("name", NAMES)
def test_frame_is_found_byte_by_byte(name: str) -> None:
    reader = FrameReader()
    pieces = [bytes([byte]) for byte in frame(name)]

    assert read(reader, *pieces) == [expected(name)]
    assert read(reader, *pieces) == [expected(name)]


@pytest.mark.parametrize("name", NAMES)
def test_frame_is_found_wherever_it_is_cut(name: str) -> None:
    whole = frame(name) * 2
    for cut in range(1, len(whole)):
        assert read(FrameReader(), whole[:cut], whole[cut:]) == [expected(name)] * 2


@pytest.mark.parametrize("name", NAMES)
def test_truncated_frame_is_waited_for(name: str) -> None:
    whole = frame(name)
    for length in range(len(whole)):
        reader = FrameReader()

        assert read(reader, whole[:length]) == []
        assert reader.fault is None


@pytest.mark.parametrize("name", NAMES)
def test_frame_before_trailing_junk_is_found(name: str) -> None:
    reader = FrameReader()

    assert read(reader, frame(name) + b"\xff" * 12) == [expected(name)]
    assert isinstance(reader.fault, FrameTooLarge)


@pytest.mark.parametrize("name", NAMES)
def test_damaged_header_never_gives_a_frame_of_another_length(name: str) -> None:
    whole = frame(name)
    for position in range(12):
        for mask in (0x01, 0x80, 0xFF):
            damaged = bytearray(whole)
            damaged[position] ^= mask
            reader = FrameReader(64 * 1024)
            for _, _, body in read(reader, bytes(damaged)):
                assert len(body) == int.from_bytes(damaged[:4], "big") - 8
            if 6 <= position < 8:
                assert isinstance(reader.fault, (Unsupported, FrameTooLarge, BadRequest))


@pytest.mark.parametrize(
    ("header", "error"),
    [
        (HEADER.pack(FRAME_BYTES_MAX + 1, 0x10, 0, 1), FrameTooLarge),
        (HEADER.pack(0xFFFFFFFF, 0x10, 0, 1), FrameTooLarge),
        (HEADER.pack(7, 0x10, 0, 1), BadRequest),
        (HEADER.pack(0, 0x10, 0, 1), BadRequest),
        (HEADER.pack(9, 0x10, 1, 1), Unsupported),
        (HEADER.pack(9, 0x10, 0x8000, 1), Unsupported),
    ],
    ids=["over_limit", "largest", "short", "zero", "lowest_flag", "highest_flag"],
)
@pytest.mark.parametrize("size", [12, 6, 4, 1])
def test_fault_in_header_is_named_however_it_arrives(
    header: bytes, error: type[HeadraceError], size: int
) -> None:
    reader = FrameReader()
    pieces = [header[at : at + size] for at in range(0, len(header), size)]

    assert read(reader, *pieces) == []
    assert type(reader.fault) is error


def test_length_is_refused_as_soon_as_it_is_there() -> None:
    reader = FrameReader()

    assert read(reader, b"\xff\xff\xff\xff") == []
    assert isinstance(reader.fault, FrameTooLarge)


def test_claimed_length_allocates_nothing() -> None:
    reader = FrameReader()
    header = HEADER.pack(FRAME_BYTES_MAX, 0x10, 0, 1)
    tracemalloc.start()
    try:
        read(reader, header + b"x")
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert reader.fault is None
    assert taken < 100_000


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(0, 60), max_size=30))
def test_cuts_change_nothing(bodies: list[bytes], cuts: list[int]) -> None:
    """Naive twin: the frames as they were put together."""
    expected = [(0x58, number + 1, body) for number, body in enumerate(bodies)]
    stream = b"".join(HEADER.pack(8 + len(body), kind, 0, no) + body for kind, no, body in expected)
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(stream[at : at + cut])
        at += cut
    reader = FrameReader(64)

    assert read(reader, *pieces, stream[at:]) == expected
    assert (reader.fault, reader.unfinished_bytes) == (None, 0)


def test_limit_holds_from_the_next_frame_on() -> None:
    reader = FrameReader(16)
    small, large = HEADER.pack(9, 0x58, 0, 1) + b"\x90", HEADER.pack(40, 0x58, 0, 2) + bytes(32)

    assert len(read(reader, small)) == 1
    reader.frame_bytes_max = 40
    assert len(read(reader, large)) == 1


def test_writer_ends_a_chunk_with_the_frame_that_fills_it() -> None:
    writer = FrameWriter()
    large = JobReply(1, 1, JobView(b"i" * 16, "q", "k", 3, 100, 0, 8, 0, payload=b"x" * 100_000))
    writer.add(0x80, 1, Done(1))
    writer.add(0x90, 2, large)
    writer.add(0x80, 3, Done(2))
    size_bytes = writer.size_bytes
    chunks = writer.take()

    assert [len(chunk) > WRITE_CHUNK_BYTES for chunk in chunks] == [True, False]
    assert sum(map(len, chunks)) == size_bytes
    assert [
        request_id for _, request_id, _ in FrameReader().frames(memoryview(b"".join(chunks)))
    ] == [1, 2, 3]
    assert writer.take() == []


def test_writer_adds_nothing_when_a_message_does_not_fit() -> None:
    writer = FrameWriter()
    writer.add(0x80, 1, Done(1))
    before = writer.size_bytes
    large = JobView(b"i" * 16, "q", "k", 3, 100, 0, 8, 0, payload=bytes(FRAME_BYTES_MAX))

    with pytest.raises(FrameTooLarge):
        writer.add(0x90, 2, JobReply(1, 1, large))

    assert writer.size_bytes == before
    assert sum(map(len, writer.take())) == before
