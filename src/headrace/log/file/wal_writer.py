"""The write side of a directory: the active segment, the spare one, CURRENT and WATERMARK.

Everything that can meet a full disk is done before the first step that cannot be undone:
the spare segment is reserved and the next CURRENT is written beside the old one, and only
then the active segment is sealed. So a full disk is `Refused`, and nothing has changed.

Rotation, in this order; a crash after any step recovers:
    1  the spare has its size, CURRENT.tmp its content       (leftovers, deleted)
    2  seal in the old segment, synced                       (ends with a seal)
    3  header in the spare, synced                           (leftover, deleted)
    4  rename, sync wal/                                     (unlisted and empty: deleted)
    5  rename CURRENT.tmp, sync meta/                        (listed and empty)
    6  the first commit is written

Any `OSError` that leaves this class means: nobody knows what is durable.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from headrace.log.base import Commit, Epoch, Refused
from headrace.log.file.current import (
    Current,
    SegmentRef,
    prepare_current,
    switch_current,
)
from headrace.log.file.disk_io import close_quietly, is_no_space, remove_if_there, write_fully
from headrace.log.file.layout import Layout
from headrace.log.file.segment_format import (
    SEAL_BYTES,
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    commit_bytes,
    encode_segment_header,
)
from headrace.log.file.segment_reader import SegmentCursor, SegmentEnd
from headrace.log.file.segment_writer import SegmentWriter
from headrace.log.file.watermark import Watermark, WatermarkWriter
from headrace.model.env import LogEnv
from headrace.model.errors import invariant
from headrace.model.limits import WATERMARK_SYNC_MS, WATERMARK_WRITE_MS

NO_SEGMENT = SegmentEnd(segment_no=0, offset=0, commit_no=0, index=0, crc=0, sealed=True)
_SALT_BYTES = 16


class WalWriter:
    def __init__(
        self,
        env: LogEnv,
        layout: Layout,
        current: Current,
        end: SegmentEnd,
        *,
        segment_bytes: int,
        machine_version: int,
    ) -> None:
        self.current = current
        self._env = env
        self._disk = env.disk
        self._layout = layout
        self._segment_bytes = segment_bytes
        self._machine_version = machine_version
        self._end = end
        self._active: SegmentWriter | None = None
        self._spare_fd: int | None = None
        self._spare_bytes = 0
        self._watermark = WatermarkWriter(env.disk, layout, current.ids)
        self._marked_commit_no = 0
        self._watermark_due_ns = 0
        self._watermark_sync_due_ns = env.clock.mono_ns() + WATERMARK_SYNC_MS * 1_000_000

    @property
    def end(self) -> SegmentEnd:
        return self._end if self._active is None else self._active.end()

    @property
    def last_index(self) -> int:
        return self._end.index if self._active is None else self._active.index

    def continue_from(self, end: SegmentEnd) -> None:
        """The next segment follows `end`, which is sealed."""
        invariant(end.sealed and self._active is None, "the log ends with a seal")
        self._end = end

    def publish(self, **changes: object) -> None:
        """CURRENT has these fields, durably. Raises: `Refused` when the disk is full."""
        changed = msgspec.structs.replace(self.current, **changes)
        with refusing_full_disk(self._layout):
            prepare_current(self._disk, self._layout, changed)
        switch_current(self._disk, self._layout)
        self.current = changed

    def resume(self, ref: SegmentRef, tail: SegmentCursor) -> None:
        """Commits go on in the segment that the last leader closed clean."""
        end = tail.end()
        if end.sealed:
            return
        path = ref.path(self._layout)
        fd = self._disk.open(path, write=True)
        try:
            size_bytes = self._reserve(fd, len(tail.content))
        except OSError:
            close_quietly(self._disk, fd)
            raise
        self._active = SegmentWriter(self._disk, fd, path, tail.header, size_bytes=size_bytes)
        self._active.resume(end)

    def _reserve(self, fd: int, size_bytes: int) -> int:
        """Grow to the usual size; on a full disk the next append rotates and is refused."""
        try:
            self._disk.preallocate(fd, max(size_bytes, self._segment_bytes))
        except OSError as error:
            if not is_no_space(error):
                raise
            return size_bytes
        self._disk.fdatasync(fd)
        return max(size_bytes, self._segment_bytes)

    def append(self, epoch: Epoch, commit: Commit, flags: int = 0) -> None:
        """The commit is durable. Raises: `Refused`; `OSError`."""
        active = self._active
        if active is None or not active.fits(len(commit.body)):
            active = self.rotate(epoch, commit.now_ms, len(commit.body))
        active.write(epoch, commit, flags)
        self._note_durable(active)

    def _note_durable(self, active: SegmentWriter) -> None:
        """Not after every commit: a system call costs a turn of a busy loop's interpreter lock."""
        now_ns = self._env.clock.mono_ns()
        if now_ns < self._watermark_due_ns:
            return
        self._watermark_due_ns = now_ns + WATERMARK_WRITE_MS * 1_000_000
        self._mark(Watermark(active.commit_no, active.index))
        if now_ns >= self._watermark_sync_due_ns:
            self._watermark_sync_due_ns = now_ns + WATERMARK_SYNC_MS * 1_000_000
            self._watermark.sync()

    def rotate(self, epoch: Epoch, now_ms: int, body_bytes: int = 0) -> SegmentWriter:
        """A fresh segment with room for `body_bytes` is active. Raises: `Refused`; `OSError`."""
        old = self._active
        ref = SegmentRef(
            segment_no=self.end.segment_no + 1,
            first_index=self.end.index + 1,
            first_commit_no=self.end.commit_no + (1 if self.end.sealed else 2),
        )
        listed = msgspec.structs.replace(self.current, segments=(*self.current.segments, ref))
        needed = SEGMENT_HEADER_BYTES + commit_bytes(body_bytes) + SEAL_BYTES
        with refusing_full_disk(self._layout):
            if old is not None and not old.sealed:
                old.reserve_seal()
            self._prepare_spare(max(self._segment_bytes, needed))
            prepare_current(self._disk, self._layout, listed)
        if old is not None and not old.sealed:
            old.seal(epoch, now_ms)
        self._active = self._name_spare(ref)
        try:
            switch_current(self._disk, self._layout)
            self.current = listed
            if old is not None:
                old.trim()
        finally:
            if old is not None:
                old.close()
        return self._active

    def _name_spare(self, ref: SegmentRef) -> SegmentWriter:
        """The spare is the segment `ref`, durably, but not yet listed."""
        fd, path, header = self._spare_fd, ref.path(self._layout), self._next_header(ref)
        assert fd is not None
        write_fully(self._disk, fd, encode_segment_header(header), 0)
        self._disk.fdatasync(fd)
        self._disk.rename(self._layout.spare, path)
        self._disk.fsync_dir(self._layout.wal)
        size_bytes, self._spare_fd, self._spare_bytes = self._spare_bytes, None, 0
        return SegmentWriter(self._disk, fd, path, header, size_bytes=size_bytes)

    def _next_header(self, ref: SegmentRef) -> SegmentHeader:
        cluster_id, node_id = self.current.ids
        return SegmentHeader(
            segment_no=ref.segment_no,
            first_commit_no=ref.first_commit_no,
            first_index=ref.first_index,
            prev_segment_no=self.end.segment_no,
            prev_commit_no=self.end.commit_no,
            prev_commit_crc=self.end.crc,
            prev_size_bytes=self.end.offset,
            cluster_id=cluster_id,
            node_id=node_id,
            salt=self._env.entropy.random_bytes(_SALT_BYTES),
            created_at_ms=self._env.clock.wall_ms(),
            machine_version=self._machine_version,
        )

    def _prepare_spare(self, size_bytes: int) -> None:
        if self._spare_bytes >= size_bytes:
            return
        if self._spare_fd is None:
            remove_if_there(self._disk, self._layout.spare)
            self._spare_fd = self._disk.open(self._layout.spare, create=True, write=True)
        try:
            self._disk.preallocate(self._spare_fd, size_bytes)
        except OSError:
            self.drop_spare()
            raise
        self._spare_bytes = size_bytes

    def drop_spare(self) -> None:
        """Its room is free again."""
        if self._spare_fd is not None:
            close_quietly(self._disk, self._spare_fd)
            self._disk.unlink(self._layout.spare)
            self._spare_fd, self._spare_bytes = None, 0

    def idle(self) -> None:
        """The watermark is durable; the next segment is reserved, if the disk has room."""
        self._sync_watermark()
        try:
            self._prepare_spare(self._segment_bytes)
        except OSError as error:
            if not is_no_space(error):
                raise

    def _sync_watermark(self) -> None:
        end = self.end
        if end.commit_no != self._marked_commit_no:
            self._mark(Watermark(end.commit_no, end.index))
        self._watermark.sync()

    def _mark(self, mark: Watermark) -> None:
        self._watermark.write(mark)
        self._marked_commit_no = mark.commit_no

    def finish(self) -> None:
        """The end is durably marked clean, and no reserved room is left over."""
        self._sync_watermark()
        self.drop_spare()
        if self._active is not None:
            self._active.trim()
        self.publish(clean=True)

    def close(self) -> None:
        """No descriptor is open any more; nothing is written."""
        self._watermark.close()
        if self._active is not None:
            self._active.close()
        if self._spare_fd is not None:
            close_quietly(self._disk, self._spare_fd)
        self._active, self._spare_fd = None, None


@contextmanager
def refusing_full_disk(layout: Layout) -> Iterator[None]:
    """Within it a full disk is `Refused`: for steps that leave what counts unchanged."""
    try:
        yield
    except OSError as error:
        if not is_no_space(error):
            raise
        raise Refused(
            f"the disk of {layout.root} is full: {error.strerror}.",
            hint="Free some space; nothing was changed, and the call may be repeated.",
        ) from error
