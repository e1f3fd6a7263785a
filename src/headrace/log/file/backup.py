"""Copying a directory so that the copy recovers: for `headrace backup` and `restore`.

Works on a live directory without its lock. The copy is of one moment: the newest good
snapshot and every commit after it that is complete at that moment, which is a state that a
crash at that moment could have left. Its CURRENT is written last, so a copy that was
interrupted has none and is refused.

Rejected: copying files as they are. Between the first and the last of them the leader
rotates and truncates, so that CURRENT would list what is not there.
"""

from __future__ import annotations

import msgspec

from headrace.log.file.current import Current, SegmentRef, SnapshotRef, write_current
from headrace.log.file.directory import check_directory, make_directories, require_log
from headrace.log.file.disk_io import (
    READ_CHUNK_BYTES,
    naming,
    opened,
    reading,
    remove_if_there,
    write_fully,
)
from headrace.log.file.layout import Layout
from headrace.log.file.recovery import Found, look_again, needed_from, read_commits
from headrace.log.file.segment_reader import SegmentEnd, SegmentFiles
from headrace.log.file.snapshot_file import check_snapshot
from headrace.log.file.verify import Severity, verify
from headrace.log.file.wal_writer import refusing_full_disk
from headrace.log.file.watermark import Watermark, reset_watermark
from headrace.model.env import Disk, LogEnv
from headrace.model.errors import LogCorrupt, UnsafeDirectory
from headrace.model.limits import COPY_TRIES_MAX


class CopyReport(msgspec.Struct, frozen=True):
    last_index: int
    snapshot_index: int
    """0 when there is no snapshot: the copy has every commit from index 1."""
    segment_count: int
    copied_bytes: int


def copy_consistent(env: LogEnv, source: str, target: str) -> CopyReport:
    """`target`, a new or empty directory, holds a log that recovers cleanly; durable.

    Raises: `UnsafeDirectory` (the target is not empty, or cannot be used); `Refused` (its
    disk is full); what `Log.open` raises, about the source.
    """
    source_layout = Layout(source.rstrip("/") or "/")
    target_layout = Layout(target.rstrip("/") or "/")
    with reading(source):
        require_log(env.disk, source_layout)
    with naming("copy to", target), refusing_full_disk(target_layout):
        _require_empty(env, target_layout)
        make_directories(env, target_layout)
        check_directory(env, target_layout)
        for _ in range(COPY_TRIES_MAX):
            try:
                return _Copy(env.disk, source_layout, target_layout).run()
            except FileNotFoundError:  # truncated meanwhile: begin again with what is newer
                _remove_files(env.disk, target_layout)
    raise UnsafeDirectory(
        f"{source_layout.root} loses files faster than they can be copied.", hint="Try again."
    )


def restore(env: LogEnv, backup: str, target: str) -> CopyReport:
    """As `copy_consistent`, of a backup that was verified first.

    Raises: `LogCorrupt` naming the first damage, before anything is written.
    """
    for finding in verify(env, backup):
        if finding.severity is Severity.ERROR:
            raise LogCorrupt(
                f"the backup is damaged: {finding.path}, offset {finding.offset}: "
                f"{finding.message}",
                hint="Restore another backup.",
                path=finding.path,
                offset=finding.offset,
            )
    return copy_consistent(env, backup, target)


def _require_empty(env: LogEnv, layout: Layout) -> None:
    if env.disk.stat(layout.root) is not None and env.disk.listdir(layout.root):
        raise UnsafeDirectory(
            f"{layout.root} is not empty.", hint="Name a directory that does not exist yet."
        )


def _remove_files(disk: Disk, layout: Layout) -> None:
    for directory in (layout.wal, layout.snapshots):
        for name in disk.listdir(directory):
            disk.unlink(f"{directory}/{name}")


class _Copy:
    def __init__(self, disk: Disk, source: Layout, target: Layout) -> None:
        self._disk = disk
        self._source = source
        self._target = target
        self._copied_bytes = 0

    def run(self) -> CopyReport:
        found = look_again(self._disk, self._source)
        snapshot = self._copy_newest_snapshot(found.current)
        index = snapshot.index if snapshot else 0
        segments = found.segments[needed_from(found.segments, index + 1) :]
        for ref in segments:
            self._copy_segment(ref, found)
        self._finish(found, segments, snapshot)
        return CopyReport(
            last_index=found.end.index if found.end else 0,
            snapshot_index=index,
            segment_count=len(segments),
            copied_bytes=self._copied_bytes,
        )

    def _copy_newest_snapshot(self, current: Current) -> SnapshotRef | None:
        for ref in reversed(current.snapshots):
            path = ref.path(self._source)
            if self._disk.stat(path) is None:
                raise FileNotFoundError(2, "No such file or directory", path)
            target = ref.path(self._target)
            self._copy_file(path, target, ref.size_bytes)
            if check_snapshot(self._disk, target, ref, current.ids) is None:
                return ref
            self._disk.unlink(target)
        return None

    def _copy_segment(self, ref: SegmentRef, found: Found) -> None:
        """All of a sealed segment, or of the last one what was complete when we looked."""
        end = found.end
        path = ref.path(self._source)
        stat = self._disk.stat(path)
        if stat is None:
            raise FileNotFoundError(2, "No such file or directory", path)
        is_last = end is not None and ref.segment_no == end.segment_no
        length = end.offset if end is not None and is_last else stat.size_bytes
        self._copy_file(path, ref.path(self._target), length)

    def _copy_file(self, source: str, target: str, length: int) -> None:
        remove_if_there(self._disk, target)
        offset = 0
        with (
            opened(self._disk, source) as fd,
            opened(self._disk, target, create=True, write=True) as out,
        ):
            while offset < length:
                with reading(source):
                    chunk = self._disk.pread(fd, min(READ_CHUNK_BYTES, length - offset), offset)
                if not chunk:
                    break
                write_fully(self._disk, out, chunk, offset)
                offset += len(chunk)
            self._disk.fdatasync(out)
        self._copied_bytes += offset

    def _finish(
        self, found: Found, segments: tuple[SegmentRef, ...], snapshot: SnapshotRef | None
    ) -> None:
        self._disk.fsync_dir(self._target.wal)
        self._disk.fsync_dir(self._target.snapshots)
        end = found.end
        if end is not None:
            self._check_copied(found.current, segments, end, snapshot)
            mark = Watermark(end.commit_no, end.index)
            reset_watermark(self._disk, self._target, found.current.ids, mark)
        write_current(
            self._disk,
            self._target,
            msgspec.structs.replace(
                found.current,
                epoch_number=found.epoch_max,
                leader="",
                clean=True,
                segments=segments,
                snapshots=(snapshot,) if snapshot else (),
            ),
        )

    def _check_copied(
        self,
        current: Current,
        segments: tuple[SegmentRef, ...],
        end: SegmentEnd,
        snapshot: SnapshotRef | None,
    ) -> None:
        """Every commit is in the copy. Raises: what `Log.recover` raises."""
        files = SegmentFiles(self._disk, self._target, current.ids)
        index = snapshot.index if snapshot else 0
        for _ in read_commits(files, segments, index + 1, end.commit_no):
            pass
