"""A simulated disk as one simulated process has it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from headrace.model.env import FileStat
from headrace.testing.sim_disk import SimCrash, SimDisk


class DiskOfProcess:
    """A `Disk` as one process has it: its descriptors and locks end with it.

    Nothing that the process tries afterwards reaches the disk: each call is a `SimCrash`.
    """

    def __init__(self, disk: SimDisk) -> None:
        self._disk = disk
        self._fds: dict[int, None] = {}
        self.calls_left = sys.maxsize
        """So many more calls take effect."""

    def end(self) -> None:
        self.calls_left = 0
        self._disk.forget(self._fds)
        self._fds.clear()

    def _count(self) -> SimDisk:
        if self.calls_left <= 0:
            raise SimCrash
        self.calls_left -= 1
        return self._disk

    def open(self, path: str, *, create: bool = False, write: bool = False) -> int:
        fd = self._count().open(path, create=create, write=write)
        self._fds[fd] = None
        return fd

    def close(self, fd: int) -> None:
        disk = self._count()
        self._fds.pop(fd, None)
        disk.close(fd)

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        return self._count().pread(fd, length, offset)

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        return self._count().pwrite(fd, data, offset)

    def pwritev(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        return self._count().pwritev(fd, buffers, offset)

    def fdatasync(self, fd: int) -> None:
        self._count().fdatasync(fd)

    def preallocate(self, fd: int, length: int) -> None:
        self._count().preallocate(fd, length)

    def truncate(self, fd: int, length: int) -> None:
        self._count().truncate(fd, length)

    def drop_cache(self, fd: int) -> None:
        self._count().drop_cache(fd)

    def stat(self, path: str) -> FileStat | None:
        return self._count().stat(path)

    def rename(self, source: str, target: str) -> None:
        self._count().rename(source, target)

    def unlink(self, path: str) -> None:
        self._count().unlink(path)

    def mkdir(self, path: str) -> None:
        self._count().mkdir(path)

    def listdir(self, path: str) -> list[str]:
        return self._count().listdir(path)

    def fsync_dir(self, path: str) -> None:
        self._count().fsync_dir(path)

    def try_lock(self, fd: int) -> bool:
        return self._count().try_lock(fd)

    def free_bytes(self, path: str) -> int:
        return self._count().free_bytes(path)

    def filesystem(self, path: str) -> str:
        return self._count().filesystem(path)
