"""What `lead` does to a directory before it writes: leftovers go, an unclean tail is renewed.

The page cache is not trusted after an unclean end. The last process may have died of a
failed sync, whose pages read back well although they are not on the disk (Rebello et al.,
"Can Applications Recover from fsync Failures?", ATC 2020). So nothing is ever appended to
an unclean tail: its valid part, read from the medium, is copied to a new file, sealed,
synced, and renamed over the old one; commits go on in a fresh segment. A tail that ends
with a seal is copied too: the seal may have been read from the cache only.

A crash at any place leaves the old tail or the new one, and both mean the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from headrace.log.base import Epoch
from headrace.log.file.current import SegmentRef
from headrace.log.file.disk_io import (
    free_name,
    opened,
    publish_written,
    remove_if_there,
    write_fully,
    write_new,
)
from headrace.log.file.layout import TEMPORARY, Layout, base_name
from headrace.log.file.recovery import Found
from headrace.log.file.segment_reader import SegmentCursor, SegmentEnd
from headrace.log.file.segment_writer import SegmentWriter
from headrace.model.env import Disk


def remove_leftovers(disk: Disk, layout: Layout, found: Found) -> None:
    """What counts for nothing is deleted, what nobody knows is in lost+found."""
    for path in found.doomed:
        remove_if_there(disk, path)
    for path in found.set_aside:
        set_aside(disk, layout, path)
    if found.doomed or found.set_aside:
        disk.fsync_dir(layout.wal)


def set_aside(disk: Disk, layout: Layout, path: str, suffix: str = "") -> str:
    """The file is in lost+found under the returned path, durably."""
    name = free_name(disk, layout.lost_found, base_name(path) + suffix)
    target = f"{layout.lost_found}/{name}"
    disk.rename(path, target)
    disk.fsync_dir(layout.lost_found)
    disk.fsync_dir(path.rpartition("/")[0])
    return target


def save_bytes(disk: Disk, layout: Layout, name: str, chunks: Sequence[bytes]) -> str:
    """A new file in lost+found holds them, durably; returns its path."""
    target = f"{layout.lost_found}/{free_name(disk, layout.lost_found, name)}"
    write_new(disk, target, chunks)
    disk.fsync_dir(layout.lost_found)
    return target


def renew_tail(
    disk: Disk, layout: Layout, ref: SegmentRef, tail: SegmentCursor, epoch: Epoch, now_ms: int
) -> SegmentEnd:
    """The segment is a new file that ends sealed after its last valid commit; durable.

    What lay behind that commit is in lost+found.
    """
    path, torn = ref.path(layout), tail.rest()
    if torn:
        save_bytes(disk, layout, f"{base_name(path)}-{tail.offset}.torn", [torn])
    with opened(disk, path + TEMPORARY, create=True, write=True) as fd:
        write_fully(disk, fd, tail.content[: tail.offset], 0)
        writer = SegmentWriter(disk, fd, path, tail.header, size_bytes=tail.offset)
        writer.resume(tail.end())
        if tail.sealed:
            disk.fdatasync(fd)
        else:
            writer.seal(epoch, now_ms)
    publish_written(disk, layout.wal, base_name(path))
    return writer.end()
