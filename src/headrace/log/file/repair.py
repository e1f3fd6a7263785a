"""Changing a directory that does not start: for `headrace repair`, on an operator's word.

Holds the lock throughout, and puts what it takes away into lost+found before it takes it.
Each repair may be repeated after a crash in its middle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from headrace.log.base import Commit
from headrace.log.file.current import (
    Current,
    SegmentRef,
    SnapshotRef,
    read_current,
    write_current,
)
from headrace.log.file.directory import check_directory, make_directories
from headrace.log.file.disk_io import naming, publish, read_whole
from headrace.log.file.layout import (
    Layout,
    advise_verify,
    base_name,
    parse_segment_name,
    parse_snapshot_name,
)
from headrace.log.file.lock import DirectoryLock
from headrace.log.file.mending import save_bytes, set_aside
from headrace.log.file.recovery_table import Verdict
from headrace.log.file.segment_format import (
    COMMIT_ALIGN_BYTES,
    COMMIT_MAGIC,
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    StoredCommit,
    decode_commit,
    decode_segment_header,
    encode_segment_header,
)
from headrace.log.file.segment_reader import SegmentCursor, SegmentFiles
from headrace.log.file.snapshot_file import check_snapshot
from headrace.log.file.stops import stop_for
from headrace.log.file.watermark import Watermark, reset_watermark
from headrace.model.env import LogEnv
from headrace.model.errors import BadRequest, CurrentDamaged, LogGap, UnsafeDirectory


class Truncation(msgspec.Struct, frozen=True):
    """What a truncation drops, or would drop."""

    segment: str
    offset: int
    last_index: int
    """Of the log afterwards."""
    dropped: tuple[Commit, ...]
    """Those that can still be read; from their bodies the caller learns which jobs."""
    unreadable_bytes: int
    """Of what else is dropped; commits may be in it that nobody can read."""
    snapshot_index: int
    """The newest good snapshot: the log goes on after it if that is later than the cut."""
    done: bool


def truncate_at(
    env: LogEnv, directory: str, segment: str, offset: int, *, dry_run: bool = False
) -> Truncation:
    """The log ends at `offset` of the named segment; with `dry_run` nothing is changed.

    When the newest good snapshot is of a later index than the cut, the log begins anew
    after the snapshot instead: what it holds is not lost.

    Raises: `BadRequest` (no such segment, or no commit ends at that offset); `Locked`.
    """
    with _locked(env, directory) as layout:
        return _Truncating(env, layout, base_name(segment), offset).run(dry_run=dry_run)


class _Truncating:
    def __init__(self, env: LogEnv, layout: Layout, segment: str, offset: int) -> None:
        self._env = env
        self._disk = env.disk
        self._layout = layout
        self._offset = offset
        self._current = read_current(env.disk, layout)
        self._files = SegmentFiles(env.disk, layout, self._current.ids)
        self._segments = self._all_segments()
        names = [base_name(ref.path(layout)) for ref in self._segments]
        if segment not in names:
            raise BadRequest(f"{layout.wal} has no segment {segment}; it has {', '.join(names)}.")
        self._at = names.index(segment)
        self._path = self._segments[self._at].path(layout)
        self._cursor = self._cut_cursor()

    def _all_segments(self) -> list[SegmentRef]:
        """Those of CURRENT and any newer one: the repair may follow one that was stopped."""
        refs = {ref.segment_no: ref for ref in self._current.segments}
        newest = max(refs, default=0)
        for name in self._disk.listdir(self._layout.wal):
            parsed = parse_segment_name(name)
            if parsed and parsed[1] > newest:
                refs[parsed[1]] = SegmentRef(parsed[1], parsed[0], 0)
        return [refs[number] for number in sorted(refs)]

    def _cut_cursor(self) -> SegmentCursor:
        """At the cut. Raises: `BadRequest` when no commit ends there."""
        cursor = self._files.cursor(self._path)
        if cursor is None:
            raise BadRequest(
                f"the header of {self._path} is damaged, so nothing in it can be kept; cut at the "
                "end of the segment before it, or restore a backup."
            )
        while cursor.offset < self._offset and cursor.read() is not None:
            pass
        if cursor.offset != self._offset:
            raise BadRequest(
                f"no commit of {self._path} ends at offset {self._offset}; the nearest place "
                f"where the log can be cut is offset {self._nearest()}."
            )
        return cursor

    def _nearest(self) -> int:
        cursor = self._files.cursor(self._path)
        assert cursor is not None
        nearest = SEGMENT_HEADER_BYTES
        for stored in cursor:
            if stored.end_offset > self._offset:
                break
            nearest = stored.end_offset
        return nearest

    def run(self, *, dry_run: bool) -> Truncation:
        snapshot = self._good_snapshot()
        snapshot_index = snapshot.index if snapshot else 0
        cut_index = self._cursor.next_index - 1
        keeps_segments = snapshot_index <= cut_index
        last_index = max(cut_index, snapshot_index)
        stored, unreadable_bytes = self._behind()
        dropped = [one.commit for one in stored if one.last_index > last_index]
        if not dry_run and keeps_segments:
            self._cut()
        elif not dry_run:
            commit_nos = [one.commit_no for one in stored]
            self._begin_after(snapshot_index, max([self._cursor.next_commit_no - 1, *commit_nos]))
        return Truncation(
            segment=base_name(self._path),
            offset=self._offset,
            last_index=last_index,
            dropped=tuple(dropped),
            unreadable_bytes=unreadable_bytes,
            snapshot_index=snapshot_index,
            done=not dry_run,
        )

    def _good_snapshot(self) -> SnapshotRef | None:
        for ref in reversed(self._current.snapshots):
            path = ref.path(self._layout)
            if check_snapshot(self._disk, path, ref, self._current.ids) is None:
                return ref
        return None

    def _behind(self) -> tuple[list[StoredCommit], int]:
        """Commits behind the cut that can be read, and how many bytes cannot."""
        found = list(salvage(self._cursor.content, self._cursor.header.seed, self._offset))
        unreadable = len(self._cursor.rest()) - sum(one.end_offset - one.offset for one in found)
        for ref in self._segments[self._at + 1 :]:
            path = ref.path(self._layout)
            if self._disk.stat(path) is None:
                continue
            content = read_whole(self._disk, path)
            header = decode_segment_header(content, path)
            used_bytes = len(content.rstrip(b"\0"))
            if header is not None:
                more = list(salvage(content, header.seed, SEGMENT_HEADER_BYTES))
                used_bytes -= sum(one.end_offset - one.offset for one in more)
                found += more
            unreadable += max(used_bytes - SEGMENT_HEADER_BYTES, 0)
        return [one for one in found if not one.is_marker], max(unreadable, 0)

    def _cut(self) -> None:
        """Later segments go first, newest first: a crash between leaves a log that stops."""
        self._set_aside(self._segments[self._at + 1 :])
        content = self._cursor.content
        save_bytes(self._disk, self._layout, base_name(self._path) + ".before-cut", [content])
        publish(self._disk, self._layout.wal, base_name(self._path), [content[: self._offset]])
        header = self._cursor.header
        kept = self._segments[self._at]
        cut = msgspec.structs.replace(kept, first_commit_no=header.first_commit_no)
        self._publish((*self._segments[: self._at], cut), self._cursor.next_commit_no - 1)

    def _begin_after(self, index: int, commit_no: int) -> None:
        """The log is an empty segment after the snapshot of `index`."""
        self._set_aside(self._segments)
        cluster_id, node_id = self._current.ids
        header = SegmentHeader(
            machine_version=self._cursor.header.machine_version,
            segment_no=self._segments[-1].segment_no + 1,
            first_commit_no=commit_no + 1,
            first_index=index + 1,
            prev_segment_no=0,
            prev_commit_no=commit_no,
            prev_commit_crc=0,
            prev_size_bytes=0,
            cluster_id=cluster_id,
            node_id=node_id,
            salt=self._env.entropy.random_bytes(16),
            created_at_ms=self._env.clock.wall_ms(),
        )
        ref = SegmentRef(header.segment_no, header.first_index, header.first_commit_no)
        name = base_name(ref.path(self._layout))
        publish(self._disk, self._layout.wal, name, [encode_segment_header(header)])
        self._publish((ref,), commit_no, index)

    def _set_aside(self, refs: Sequence[SegmentRef]) -> None:
        for ref in reversed(refs):
            path = ref.path(self._layout)
            if self._disk.stat(path) is not None:
                set_aside(self._disk, self._layout, path)

    def _publish(
        self, segments: Sequence[SegmentRef], commit_no: int, index: int | None = None
    ) -> None:
        mark = Watermark(commit_no, self._cursor.next_index - 1 if index is None else index)
        reset_watermark(self._disk, self._layout, self._current.ids, mark)
        changed = msgspec.structs.replace(
            self._current,
            segments=tuple(segments),
            snapshots=self._snapshots_until(mark.index),
            clean=False,
        )
        write_current(self._disk, self._layout, changed)

    def _snapshots_until(self, index: int) -> tuple[SnapshotRef, ...]:
        """A later one is damaged, else the log would begin after it: it proves nothing now."""
        kept = tuple(ref for ref in self._current.snapshots if ref.index <= index)
        for ref in self._current.snapshots[len(kept) :]:
            path = ref.path(self._layout)
            if self._disk.stat(path) is not None:
                set_aside(self._disk, self._layout, path)
        return kept


def salvage(content: bytes, seed: int, offset: int) -> Iterator[StoredCommit]:
    """Every commit from `offset` on that passes its checksums, chained or not."""
    while (offset := content.find(COMMIT_MAGIC, offset)) >= 0:
        aligned = offset % COMMIT_ALIGN_BYTES == 0
        stored = decode_commit(content, offset, seed) if aligned else None
        if stored is not None:
            yield stored
        offset = stored.end_offset if stored else offset + 1


def rebuild_current(env: LogEnv, directory: str) -> Current:
    """CURRENT lists what is there, made from the headers; the old one is in lost+found.

    Raises: `LogGap` (segments are missing between those that are there); `LogCorrupt` (a
    segment does not say where it belongs); `IdMismatch`; `CurrentDamaged` (there is no
    segment to make it from); `Locked`.
    """
    with _locked(env, directory) as layout:
        headers = _headers(env, layout)
        if not headers:
            raise CurrentDamaged(
                f"{layout.wal} has no segment, so nothing says what CURRENT was.",
                hint="Restore a backup.",
            )
        ids = headers[-1].cluster_id, headers[-1].node_id
        snapshots = _good_snapshots(env, layout, ids)
        kept = _unbroken(layout, headers, max((ref.index for ref in snapshots), default=0))
        segments = tuple(
            SegmentRef(one.segment_no, one.first_index, one.first_commit_no) for one in kept
        )
        epoch = _newest_epoch(env, layout, ids, segments)
        if env.disk.stat(layout.current) is not None:
            set_aside(env.disk, layout, layout.current)
        current = Current(
            cluster_id=ids[0].hex(),
            node_id=ids[1].hex(),
            epoch_number=max([epoch, *(ref.epoch_number for ref in snapshots)]),
            clean=False,
            segments=segments,
            snapshots=snapshots,
        )
        write_current(env.disk, layout, current)
        return current


def _headers(env: LogEnv, layout: Layout) -> list[SegmentHeader]:
    """Of all segments, by number. Raises: `LogCorrupt` when one is damaged."""
    found = []
    for name in env.disk.listdir(layout.wal):
        if parse_segment_name(name):
            path = f"{layout.wal}/{name}"
            header = decode_segment_header(read_whole(env.disk, path), path)
            if header is None:
                raise stop_for(Verdict.BAD_HEADER, path)
            found.append(header)
    return sorted(found, key=lambda header: header.segment_no)


def _unbroken(
    layout: Layout, headers: Sequence[SegmentHeader], snapshot_index: int
) -> Sequence[SegmentHeader]:
    """The segments up to the newest that follow one another.

    What lies before a gap is left from a truncation that a crash undid in part, when a good
    snapshot says what it held; the next start clears it away. Raises: `LogGap` else.
    """
    first = len(headers) - 1
    while first and headers[first].prev_segment_no in (headers[first - 1].segment_no, 0):
        first -= 1
    if first and headers[first].first_index > snapshot_index + 1:
        raise LogGap(
            f"{layout.wal}: segment {headers[first].segment_no} follows segment "
            f"{headers[first].prev_segment_no}, but the one before it is "
            f"{headers[first - 1].segment_no}.",
            hint=advise_verify(layout.root),
        )
    return headers[first:]


def _good_snapshots(
    env: LogEnv, layout: Layout, ids: tuple[bytes, bytes]
) -> tuple[SnapshotRef, ...]:
    found = []
    for name in env.disk.listdir(layout.snapshots):
        path, parsed = f"{layout.snapshots}/{name}", parse_snapshot_name(name)
        if parsed is None:
            continue
        stat = env.disk.stat(path)
        ref = SnapshotRef(parsed[0], parsed[1], stat.size_bytes if stat else 0)
        if check_snapshot(env.disk, path, ref, ids) is None:
            found.append(ref)
    return tuple(found)


def _newest_epoch(
    env: LogEnv, layout: Layout, ids: tuple[bytes, bytes], segments: Sequence[SegmentRef]
) -> int:
    files = SegmentFiles(env.disk, layout, ids)
    newest = 0
    for ref in segments:
        for stored in files.cursor(ref.path(layout)) or ():
            newest = max(newest, stored.epoch.number)
    return newest


@contextmanager
def _locked(env: LogEnv, directory: str) -> Iterator[Layout]:
    layout = Layout(directory.rstrip("/") or "/")
    with naming("repair", layout.root):
        if env.disk.stat(layout.wal) is None:
            raise UnsafeDirectory(f"{layout.root} holds no headrace data.", hint="Check the path.")
        check_directory(env, layout)
        lock = DirectoryLock(env, layout)
        try:
            make_directories(env, layout)
            yield layout
        finally:
            lock.release()
