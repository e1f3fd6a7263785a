"""Whole reads, whole writes and atomic publication, in single calls of a `Disk`.

A short write is continued, never repeated; a failed sync is never repeated.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress

from headrace.log.file.layout import TEMPORARY
from headrace.model.env import Disk
from headrace.model.errors import DiskFailed
from headrace.model.limits import MIB

READ_CHUNK_BYTES = 4 * MIB
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def is_no_space(error: OSError) -> bool:
    return error.errno in NO_SPACE


@contextmanager
def naming(action: str, path: str) -> Iterator[None]:
    """Within it an `OSError` is `DiskFailed` that says what was tried, but for a missing file."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DiskFailed(
            f"cannot {action} {path}: {error.strerror}.",
            hint="Check the permissions there, and the disk (`dmesg`).",
            path=path,
        ) from error


def reading(path: str) -> AbstractContextManager[None]:
    return naming("read", path)


def close_quietly(disk: Disk, fd: int) -> None:
    """The descriptor is gone, as it is even when `close` fails; what was synced stays so."""
    with suppress(OSError):
        disk.close(fd)


@contextmanager
def opened(disk: Disk, path: str, *, create: bool = False, write: bool = False) -> Iterator[int]:
    fd = disk.open(path, create=create, write=write)
    try:
        yield fd
    finally:
        close_quietly(disk, fd)


def read_whole(disk: Disk, path: str, *, from_medium: bool = False) -> bytes:
    """Raises: `FileNotFoundError`; `DiskFailed`."""
    with reading(path), opened(disk, path) as fd:
        if from_medium:
            disk.drop_cache(fd)
        return b"".join(read_chunks(disk, fd, 0))


def read_chunks(disk: Disk, fd: int, offset: int, end: int | None = None) -> Iterator[bytes]:
    """Content from `offset` up to `end` or the end of the file."""
    while end is None or offset < end:
        length = READ_CHUNK_BYTES if end is None else min(READ_CHUNK_BYTES, end - offset)
        chunk = disk.pread(fd, length, offset)
        if not chunk:
            return
        offset += len(chunk)
        yield chunk


def read_exactly(disk: Disk, fd: int, length: int, offset: int) -> bytes:
    """`length` bytes, or fewer when the file ends before."""
    return b"".join(read_chunks(disk, fd, offset, offset + length))


def write_fully(disk: Disk, fd: int, data: bytes, offset: int) -> None:
    """All of `data` is written, not yet durable."""
    rest = memoryview(data)
    while rest:
        written = disk.pwrite(fd, rest, offset)
        if written <= 0:
            raise OSError(errno.EIO, "write wrote nothing")
        offset += written
        rest = rest[written:]


def write_buffers(disk: Disk, fd: int, buffers: Sequence[bytes], offset: int) -> None:
    """All buffers are written one after the other, not yet durable."""
    written = disk.pwritev(fd, buffers, offset)
    if written < sum(map(len, buffers)):
        write_fully(disk, fd, b"".join(buffers)[written:], offset + written)


def write_new(disk: Disk, path: str, chunks: Sequence[bytes]) -> None:
    """A file with this content is durable under `path`, its name not yet."""
    remove_if_there(disk, path)
    with opened(disk, path, create=True, write=True) as fd:
        offset = 0
        for chunk in chunks:
            write_fully(disk, fd, chunk, offset)
            offset += len(chunk)
        disk.fdatasync(fd)


def publish(disk: Disk, directory: str, name: str, chunks: Sequence[bytes]) -> None:
    """`directory/name` durably has this content; after a crash it has either all or what it had."""
    write_new(disk, f"{directory}/{name}{TEMPORARY}", chunks)
    publish_written(disk, directory, name)


def publish_written(disk: Disk, directory: str, name: str) -> None:
    """The second half of `publish`, when the temporary file is already durable."""
    disk.rename(f"{directory}/{name}{TEMPORARY}", f"{directory}/{name}")
    disk.fsync_dir(directory)


def remove_if_there(disk: Disk, path: str) -> None:
    if disk.stat(path) is not None:
        disk.unlink(path)


def free_name(disk: Disk, directory: str, name: str) -> str:
    """`name`, or `name.1`, `name.2`, …: the first that nothing in `directory` has."""
    taken = set(disk.listdir(directory))
    number, candidate = 0, name
    while candidate in taken:
        number += 1
        candidate = f"{name}.{number}"
    return candidate
