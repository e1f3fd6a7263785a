"""Files of this machine, one system call a method.

Must never loop over a short read or write, and never repeat an fsync: whether that is
safe is the log's decision (after a failed fsync the kernel may have dropped the pages).

What makes content durable: `fdatasync` on Linux; `F_FULLFSYNC` on macOS, where a plain
fsync stops at the drive's volatile cache. The contract of each method is in
`headrace.model.env.Disk`; Windows has no server and so no disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
from collections.abc import Sequence

from headrace.model.env import FileStat
from headrace.model.limits import MIB

if sys.platform != "win32":
    import fcntl

_MOUNTINFO_PATH = "/proc/self/mountinfo"
_ZEROS = bytes(1 * MIB)
_NO_FALLOCATE = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class RealDisk:
    def open(self, path: str, *, create: bool = False, write: bool = False) -> int:
        flags = os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_RDWR if write else os.O_RDONLY)
        if create:
            flags |= os.O_CREAT | os.O_EXCL
        return os.open(path, flags, 0o600)

    def close(self, fd: int) -> None:
        os.close(fd)

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        return os.pread(fd, length, offset)

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        return os.pwrite(fd, data, offset)

    def pwritev(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        return os.pwritev(fd, buffers, offset)

    def fdatasync(self, fd: int) -> None:
        if sys.platform == "darwin":
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(fd)

    def preallocate(self, fd: int, length: int) -> None:
        if sys.platform == "linux":
            try:
                os.posix_fallocate(fd, 0, length)
            except OSError as error:
                if error.errno not in _NO_FALLOCATE:
                    raise
            else:
                return
        write_zeros(fd, length)

    def truncate(self, fd: int, length: int) -> None:
        os.ftruncate(fd, length)

    def drop_cache(self, fd: int) -> None:
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def stat(self, path: str) -> FileStat | None:
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return None
        return FileStat(
            size_bytes=found.st_size,
            mode=stat.S_IMODE(found.st_mode),
            owner_uid=found.st_uid,
            is_dir=stat.S_ISDIR(found.st_mode),
        )

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def mkdir(self, path: str) -> None:
        os.mkdir(path, 0o700)

    def listdir(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def fsync_dir(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if sys.platform == "darwin":
                fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            else:
                os.fsync(fd)
        finally:
            os.close(fd)

    def try_lock(self, fd: int) -> bool:
        if sys.platform == "win32":
            raise OSError(errno.ENOSYS, "no flock on Windows")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def free_bytes(self, path: str) -> int:
        if sys.platform == "win32":
            raise OSError(errno.ENOSYS, "no statvfs on Windows")
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    def filesystem(self, path: str) -> str:
        try:
            with open(_MOUNTINFO_PATH, encoding="utf-8", errors="surrogateescape") as file:
                return filesystem_of(os.path.realpath(path), file.read())
        except OSError:
            return ""


def write_zeros(fd: int, length: int) -> None:
    """The file is at least `length` bytes long and its new part has room on the disk.

    Content that the file had is kept, as `posix_fallocate` keeps it.
    """
    offset = os.fstat(fd).st_size
    while offset < length:
        offset += os.pwrite(fd, _ZEROS[: length - offset], offset)


def filesystem_of(path: str, mountinfo: str) -> str:
    """Type of the file system that holds the real `path`, or `` when no line names one.

    The longest mount point that is a parent wins, and of equal ones the last: a later
    mount hides an earlier one. Format: proc_pid_mountinfo(5).
    """
    best_length, best_type = -1, ""
    for line in mountinfo.splitlines():
        left, separator, right = line.partition(" - ")
        fields = left.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = _unescape(fields[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best_length:
            best_length, best_type = len(point), right.split(" ")[0]
    return best_type


def _unescape(mount_point: str) -> str:
    """Blanks, tabs, newlines and backslashes are written as three octal digits there."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), mount_point)
