"""Bytes of a segment: what is written is read back, and nothing else passes for it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.log.base import Commit, Epoch
from headrace.log.file.segment_format import (
    COMMIT_ALIGN_BYTES,
    FLAG_SEAL,
    SEAL_BYTES,
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    StoredCommit,
    commit_bytes,
    decode_commit,
    decode_segment_header,
    encode_commit,
    encode_segment_header,
)
from headrace.log.file.segment_reader import SegmentCursor, SegmentEnd, links
from headrace.model.errors import FormatNewer

SPEC = Path(__file__).parents[3] / "spec" / "wal-format.md"
HEADER = SegmentHeader(
    machine_version=1,
    segment_no=2,
    first_commit_no=7,
    first_index=41,
    prev_segment_no=1,
    prev_commit_no=6,
    prev_commit_crc=0x01020304,
    prev_size_bytes=4096,
    cluster_id=bytes(range(16)),
    node_id=bytes(range(16, 32)),
    salt=bytes(range(32, 48)),
    created_at_ms=1_767_225_600_000,
)
EPOCH = Epoch(3, b"nonce678")
COMMIT = Commit(b"commit-id-16-byt", 41, 2, 1_767_225_600_123, b"two records")


def encoded(commit: Commit = COMMIT, *, seed: int = HEADER.seed, flags: int = 0) -> bytes:
    buffers, _ = encode_commit(
        commit, seed=seed, commit_no=7, prev_crc=HEADER.prev_commit_crc, epoch=EPOCH, flags=flags
    )
    return b"".join(buffers)


def decoded(raw: bytes, seed: int = HEADER.seed) -> StoredCommit | None:
    return decode_commit(raw, 0, seed)


def test_segment_header_comes_back() -> None:
    raw = encode_segment_header(HEADER)

    assert len(raw) == SEGMENT_HEADER_BYTES
    assert decode_segment_header(raw, "path") == HEADER


def test_segment_header_with_any_byte_changed_is_damaged() -> None:
    raw = encode_segment_header(HEADER)
    for at in range(len(raw)):
        changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        assert decode_segment_header(changed, "path") is None
        assert decode_segment_header(raw[:at], "path") is None


@given(
    commit_id=st.binary(min_size=16, max_size=16),
    first_index=st.integers(1, 2**63),
    record_count=st.integers(0, 2**32 - 1),
    now_ms=st.integers(0, 2**48 - 1),
    body=st.binary(max_size=1000),
)
def test_commit_comes_back(
    commit_id: bytes, first_index: int, record_count: int, now_ms: int, body: bytes
) -> None:
    commit = Commit(commit_id, first_index, record_count, now_ms, body)
    raw = encoded(commit)
    stored = decoded(raw)

    assert stored is not None
    assert stored.commit == commit
    assert stored.epoch == EPOCH
    assert len(raw) == commit_bytes(len(body)) == stored.end_offset
    assert len(raw) % COMMIT_ALIGN_BYTES == 0
    assert not stored.is_marker


def test_commit_with_any_byte_changed_or_cut_off_is_none() -> None:
    """All but the padding, which says nothing."""
    raw = encoded()
    said = 80 + len(COMMIT.body)
    for at in range(said):
        assert decoded(raw[:at] + bytes([raw[at] ^ 0x80]) + raw[at + 1 :]) is None
        assert decoded(raw[:at]) is None

    assert decoded(raw[:said]) is not None


def test_commit_of_another_segment_is_none() -> None:
    """The salt: a payload may hold a segment byte for byte."""
    assert decoded(encoded(seed=HEADER.seed ^ 1)) is None


def test_seal_has_the_room_that_is_kept_for_it() -> None:
    raw = encoded(Commit(bytes(16), 43, 0, 1, b""), flags=FLAG_SEAL)

    assert len(raw) == SEAL_BYTES
    stored = decoded(raw)
    assert stored is not None
    assert stored.is_marker


def test_bytes_of_the_specification_are_read_as_it_says() -> None:
    """A worked example: readers in other languages start from it."""
    block = re.search(r"```hex\n(.*?)```", SPEC.read_text(), re.DOTALL)
    assert block is not None
    raw = b"".join(
        bytes.fromhex(line.split("  ")[1]) if "×" not in line else bytes(int(line.split("×")[1]))
        for line in block[1].strip().splitlines()
    )

    assert raw == encode_segment_header(HEADER) + encoded()
    cursor = SegmentCursor(HEADER, raw)
    assert [stored.commit for stored in cursor] == [COMMIT]


# --- the cursor


def test_cursor_finds_the_proof_that_a_bad_place_was_durable() -> None:
    first, second = encoded(), encode_second()
    content = encode_segment_header(HEADER) + bytes(len(first)) + second
    cursor = SegmentCursor(HEADER, content)

    assert cursor.read() is None
    assert cursor.later_commit_offset() == SEGMENT_HEADER_BYTES + len(first)


def encode_second() -> bytes:
    commit = Commit(b"another-id-16-by", 43, 1, 1, b"one record")
    buffers, _ = encode_commit(commit, seed=HEADER.seed, commit_no=8, prev_crc=0, epoch=EPOCH)
    return b"".join(buffers)


@pytest.mark.parametrize("flag", [4, 8, 128])
def test_cursor_refuses_a_flag_it_does_not_know(flag: int) -> None:
    """An older reader must not take what it does not understand for a marker."""
    cursor = SegmentCursor(HEADER, encode_segment_header(HEADER) + encoded(flags=flag))
    with pytest.raises(FormatNewer, match=f"flags {flag:#x}"):
        cursor.read()


def test_cursor_tells_a_commit_in_the_wrong_place() -> None:
    cursor = SegmentCursor(HEADER, encode_segment_header(HEADER) + encode_second())

    assert cursor.read() is None
    assert cursor.misplaced is not None
    assert cursor.misplaced.commit_no == 8


def test_cursor_tells_a_commit_with_another_past() -> None:
    """Right numbers, right checksums, but it was written after another commit."""
    buffers, _ = encode_commit(COMMIT, seed=HEADER.seed, commit_no=7, prev_crc=0, epoch=EPOCH)
    cursor = SegmentCursor(HEADER, encode_segment_header(HEADER) + b"".join(buffers))

    assert cursor.read() is None
    assert cursor.misplaced is not None


@pytest.mark.parametrize("field", ["segment_no", "commit_no", "index", "crc", "offset", "sealed"])
def test_segment_links_only_to_the_exact_end_before_it(field: str) -> None:
    end = SegmentEnd(segment_no=1, offset=4096, commit_no=6, index=40, crc=0x01020304, sealed=True)
    values = {name: getattr(end, name) for name in end.__struct_fields__}
    values[field] = not values[field] if field == "sealed" else values[field] + 1

    assert links(HEADER, end)
    assert not links(HEADER, SegmentEnd(**values))
