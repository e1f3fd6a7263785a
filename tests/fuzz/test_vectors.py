"""Every golden vector, and every small damage to it, at every parser that reads it.

Whole, cut at each length, each bit flipped, with bytes behind it, joined and interleaved with
others; machines get each of them whole and in single bytes (`proof/fuzz/targets/wire.py`).
"""

from __future__ import annotations

import msgspec
import pytest

from headrace.codec.messages import decode_body, encode_body
from headrace.codec.records import decode_records, encode_records
from headrace.codec.rows import decode_rows, encode_rows
from headrace.log.file import segment_format, snapshot_file
from headrace.log.file.current import decode_current, encode_current
from headrace.log.file.segment_reader import SegmentCursor
from headrace.log.file.watermark import SLOT_BYTES, decode_slot, encode_slot
from proof.fuzz import vectors
from proof.fuzz.guided import Tally, run_systematic
from proof.fuzz.judging import bounded_memory
from proof.fuzz.targets import TARGETS

pytestmark = pytest.mark.proof

CI_EXHAUSTIVE_BYTES_MAX = 1_100
"""Of longer vectors (the segments and the snapshot of a data directory) CI takes 2,000 cuts
and 2,000 bits; `python -m proof.fuzz parsers` takes all of them."""


@pytest.mark.parametrize("name", TARGETS)
def test_every_damage_to_every_vector_is_refused_with_a_word_or_means_something(name: str) -> None:
    """All of them together: 20 s of one processor."""
    target = TARGETS[name]
    extent = min(target.exhaustive_bytes_max, CI_EXHAUSTIVE_BYTES_MAX)
    tally = Tally()
    with bounded_memory():
        run_systematic(
            msgspec.structs.replace(target, exhaustive_bytes_max=extent), 0, lambda: True, tally
        )

    assert [finding.line() for finding in tally.findings] == []
    assert tally.taken > 0
    assert tally.refused > 0 or name in ("lock", "number")


@pytest.mark.parametrize("name", ["segment", "snapshot", "current", "watermark"])
def test_file_of_a_directory_is_short_enough_to_be_damaged_everywhere(name: str) -> None:
    """Of the long run; the whole directory is sampled, its files are not."""
    longest = max(map(len, TARGETS[name].seeds()))
    assert longest <= TARGETS[name].exhaustive_bytes_max


def test_vectors_are_written_again_byte_by_byte() -> None:
    """What is promised to stay: wire, records, rows, and the files of a data directory."""
    for type_number, body in vectors.wire_bodies().values():
        assert encode_body(decode_body(type_number, body)) == body
    for record in vectors.records().values():
        assert encode_records(decode_records(record, 1)) == record
    for row in vectors.rows():
        assert encode_rows(decode_rows(row)) == row


def test_small_files_of_a_directory_are_written_again_byte_by_byte() -> None:
    raw = vectors.directory()["meta/CURRENT"]
    current = decode_current(raw, "CURRENT", "/data")
    assert encode_current(current) == raw

    raw = vectors.directory()["meta/WATERMARK"]
    for slot in (raw[:SLOT_BYTES], raw[SLOT_BYTES:]):
        mark = decode_slot(slot, "WATERMARK", current.ids)
        assert mark is None or encode_slot(mark, current.ids) == slot


def test_segments_and_snapshots_are_written_again_byte_by_byte() -> None:
    for raw in vectors.of_directory("wal/"):
        header = segment_format.decode_segment_header(raw, "segment")
        assert header is not None
        assert segment_format.encode_segment_header(header) == raw[:512]
        for stored in SegmentCursor(header, raw):
            buffers, _ = segment_format.encode_commit(
                stored.commit,
                seed=header.seed,
                commit_no=stored.commit_no,
                prev_crc=stored.prev_crc,
                epoch=stored.epoch,
                flags=stored.flags,
            )
            assert b"".join(buffers) == raw[stored.offset : stored.end_offset]
    (raw,) = vectors.of_directory("snapshots/")
    snapshot_header = snapshot_file.decode_snapshot_header(raw[:512], "snapshot")
    trailer = snapshot_file.decode_trailer(raw[-128:])
    assert snapshot_header is not None
    assert trailer is not None
    assert snapshot_file.encode_snapshot_header(snapshot_header) == raw[:512]
    assert snapshot_file.encode_trailer(trailer) == raw[-128:]
