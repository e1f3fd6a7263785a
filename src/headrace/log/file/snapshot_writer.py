"""Writing a snapshot beside the commits: block by block, synced in steps, visible at the end.

`write` runs on a thread of its own and touches nothing that `append` uses. It syncs each
`SNAPSHOT_SYNC_BYTES`: one sync of everything at the end would hold up the commits of the
same file system for as long as it takes (measured: 70 ms, against 4 ms).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import msgspec

from headrace.log.base import Fenced, Refused, SnapshotInfo
from headrace.log.file.current import SnapshotRef
from headrace.log.file.disk_io import close_quietly, remove_if_there, write_fully
from headrace.log.file.layout import TEMPORARY, Layout
from headrace.log.file.snapshot_file import (
    TRAILER_BYTES,
    SnapshotHeader,
    SnapshotTrailer,
    encode_block_header,
    encode_snapshot_header,
    encode_trailer,
    new_digest,
    trailer_front,
)
from headrace.log.file.wal_writer import refusing_full_disk
from headrace.model.env import Disk
from headrace.model.errors import DiskFailed, InvariantViolated, SyncFailed, invariant
from headrace.model.limits import SNAPSHOT_BLOCK_BYTES_MAX, SNAPSHOT_SYNC_BYTES


class FileSnapshotWriter:
    """`make_visible` makes the finished, durable temporary file count, or raises.

    It returns what counts for the index, which may be an earlier snapshot of it.
    """

    def __init__(
        self,
        disk: Disk,
        layout: Layout,
        header: SnapshotHeader,
        make_visible: Callable[[SnapshotRef], SnapshotRef],
    ) -> None:
        self._disk = disk
        self._layout = layout
        self._header = header
        self._make_visible = make_visible
        self._path = layout.snapshot(header.index, header.epoch_number)
        self._digest = new_digest()
        self._offset = 0
        self._synced_offset = 0
        self._block_count = 0
        self._body_bytes = 0
        with refusing_full_disk(layout):
            remove_if_there(disk, self._path + TEMPORARY)
            self._fd: int | None = disk.open(self._path + TEMPORARY, create=True, write=True)
        self._put(encode_snapshot_header(header))

    def write(self, block: bytes) -> bool:
        invariant(
            0 < len(block) <= SNAPSHOT_BLOCK_BYTES_MAX,
            "a block is neither empty nor too large",
            block_bytes=len(block),
        )
        self._put(encode_block_header(block, self._block_count, self._header.seed))
        self._put(block)
        self._block_count += 1
        self._body_bytes += len(block)
        if self._offset - self._synced_offset < SNAPSHOT_SYNC_BYTES:
            return False
        self._sync()
        return True

    def _put(self, data: bytes) -> None:
        """Raises: `Refused`; `DiskFailed`. Then the snapshot is given up."""
        fd = self._open_fd()
        try:
            with refusing_full_disk(self._layout):
                write_fully(self._disk, fd, data, self._offset)
        except Refused:
            self.abort()
            raise
        except OSError as error:
            self.abort()
            raise DiskFailed(
                f"cannot write {self._path}: {error.strerror}.", hint="Check the disk (`dmesg`)."
            ) from error
        self._digest.update(data)
        self._offset += len(data)

    def _open_fd(self) -> int:
        if self._fd is None:
            raise InvariantViolated("the snapshot was published or aborted")
        return self._fd

    def _sync(self) -> None:
        """Raises: `Refused`; `SyncFailed`. Then the snapshot is given up, and nothing else."""
        fd = self._open_fd()
        try:
            with refusing_full_disk(self._layout):
                self._disk.fdatasync(fd)
        except Refused:
            self.abort()
            raise
        except OSError as error:
            self.abort()
            raise SyncFailed(
                f"cannot make {self._path} durable: {error.strerror}.",
                hint="Check the disk (`dmesg`).",
            ) from error
        self._disk.drop_cache(fd)
        self._synced_offset = self._offset

    def publish(self) -> SnapshotInfo:
        self._put(self._trailer())
        self._sync()
        self.release()
        ref = SnapshotRef(self._header.index, self._header.epoch_number, self._offset)
        try:
            return self._make_visible(ref).info()
        except Fenced:
            self._remove()
            raise

    def _trailer(self) -> bytes:
        trailer = SnapshotTrailer(
            index=self._header.index,
            epoch_number=self._header.epoch_number,
            block_count=self._block_count,
            body_bytes=self._body_bytes,
            file_bytes=self._offset + TRAILER_BYTES,
            digest=b"",
        )
        digest = self._digest.copy()
        digest.update(trailer_front(trailer))
        return encode_trailer(msgspec.structs.replace(trailer, digest=digest.digest()))

    def abort(self) -> None:
        if self._fd is not None:
            self.release()
            self._remove()

    @property
    def is_open(self) -> bool:
        return self._fd is not None

    def release(self) -> None:
        """The descriptor is closed; the file counts for nothing, and goes at the next start."""
        if self._fd is not None:
            close_quietly(self._disk, self._fd)
            self._fd = None

    def _remove(self) -> None:
        """What a failing disk keeps of it counts for nothing, and goes at the next start."""
        with suppress(OSError):
            remove_if_there(self._disk, self._path + TEMPORARY)
