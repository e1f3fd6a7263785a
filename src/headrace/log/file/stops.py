"""Sentences for an operator, one for each verdict that stops a start.

Each says which file, which offset, what was expected, what was found, and what to run.
"""

from __future__ import annotations

from headrace.log.file.layout import (
    COPY_AGAIN,
    advise_copy,
    advise_truncate,
    advise_verify,
    base_name,
    root_of,
    segment_name,
)
from headrace.log.file.recovery_table import Verdict
from headrace.log.file.segment_reader import SegmentCursor, SegmentEnd
from headrace.log.file.watermark import Watermark
from headrace.model.errors import LogCorrupt, LogGap, LogTailLost, StopError, invariant


def stop_for(
    verdict: Verdict,
    path: str,
    *,
    cursor: SegmentCursor | None = None,
    before: SegmentEnd | None = None,
    watermark: Watermark | None = None,
    snapshot_index: int = 0,
) -> StopError:
    """The error for a verdict that says stop, about the segment at `path`.

    `before` is the end of the segment before it.
    """
    if verdict is Verdict.MISSING:
        return LogGap(
            f"{base_name(path)} is missing from {root_of(path)}/wal, though CURRENT lists it.",
            hint=advise_copy(root_of(path)),
            path=path,
        )
    if verdict is Verdict.BAD_HEADER or cursor is None:
        return LogCorrupt(
            f"{path}: the segment header at offset 0 is damaged: its magic number or checksum "
            "is not what was written.",
            hint=advise_verify(root_of(path)),
            path=path,
            offset=0,
        )
    if verdict is Verdict.UNLINKED:
        return _unlinked(path, cursor, before)
    if verdict is Verdict.TAIL_LOST:
        return _tail_lost(path, cursor, watermark or Watermark(), snapshot_index)
    return _damaged_commit(verdict, path, cursor)


def _unlinked(path: str, cursor: SegmentCursor, before: SegmentEnd | None) -> StopError:
    header = cursor.header
    if segment_name(header.first_index, header.segment_no) != base_name(path):
        return LogGap(
            f"{path} is not the segment that its name says: its header is that of segment "
            f"{header.segment_no}, from index {header.first_index}.",
            hint=advise_copy(root_of(path)),
            path=path,
            offset=0,
        )
    found = "no segment"
    if before is not None:
        found = (
            f"segment {before.segment_no} ending at offset {before.offset} with commit "
            f"{before.commit_no}, checksum {before.crc:08x}"
        )
    return LogGap(
        f"{path} does not continue the segment before it: it expects segment "
        f"{header.prev_segment_no} ending at offset {header.prev_size_bytes} with commit "
        f"{header.prev_commit_no}, checksum {header.prev_commit_crc:08x}; found {found}.",
        hint=advise_copy(root_of(path)),
        path=path,
        offset=0,
    )


def _tail_lost(
    path: str, cursor: SegmentCursor, watermark: Watermark, snapshot_index: int
) -> StopError:
    end = cursor.end()
    proof = f"commit {watermark.commit_no} (index {watermark.index}) was durable"
    if watermark.commit_no <= end.commit_no:
        proof = f"the snapshot of index {snapshot_index} was published after that index was durable"
    return LogTailLost(
        f"{path}: the log ends at offset {end.offset} with commit {end.commit_no} (index "
        f"{end.index}), but {proof}.",
        hint=f"{COPY_AGAIN} {advise_truncate(path, end.offset)}",
        path=path,
        offset=end.offset,
    )


def _damaged_commit(verdict: Verdict, path: str, cursor: SegmentCursor) -> StopError:
    end = cursor.end()
    found = "bytes that fail their checksum"
    if cursor.misplaced is not None:
        found = f"commit {cursor.misplaced.commit_no} (index {cursor.misplaced.commit.first_index})"
    later = cursor.later_commit_offset()
    proof = f"; a later commit is at offset {later}" if later is not None else ""
    invariant(verdict in _DAMAGE, "the verdict says stop", verdict=verdict)
    return LogCorrupt(
        f"{path}: damage at offset {end.offset}: expected commit {end.commit_no + 1} (index "
        f"{end.index + 1}), found {found}{proof}. This place had been durable: it is no torn tail.",
        hint=f"{COPY_AGAIN} {advise_truncate(path, end.offset)}",
        path=path,
        offset=end.offset,
    )


_DAMAGE = (Verdict.BAD_COMMIT, Verdict.MISPLACED)
