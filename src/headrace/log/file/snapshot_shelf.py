"""Which snapshots count, and what may be forgotten because of them.

Listing comes after a file is complete, deleting after it is no longer listed: a crash
between leaves a file that counts for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from headrace.log.base import Refused
from headrace.log.file.current import Current, SnapshotRef
from headrace.log.file.disk_io import publish_written, remove_if_there
from headrace.log.file.layout import TEMPORARY, Layout, base_name, parse_snapshot_name
from headrace.log.file.mending import set_aside
from headrace.log.file.snapshot_file import check_snapshot
from headrace.log.file.wal_writer import WalWriter
from headrace.model.env import Disk
from headrace.model.errors import invariant
from headrace.model.limits import SNAPSHOTS_KEPT


def publish_snapshot(
    disk: Disk, layout: Layout, writer: WalWriter, ref: SnapshotRef
) -> SnapshotRef:
    """The finished temporary file has its name and is listed, durably.

    State at one index is the same whenever it is taken: of two snapshots of an index the
    first stays, so that a listed file is never written over. Raises: `Refused`.
    """
    path, listed = ref.path(layout), writer.current.snapshots
    invariant(ref.index <= writer.last_index, "its index is durable", index=ref.index)
    invariant(not listed or listed[-1].index <= ref.index, "snapshots come in order")
    if listed and listed[-1].index == ref.index:
        disk.unlink(path + TEMPORARY)
        return listed[-1]
    publish_written(disk, layout.snapshots, base_name(path))
    try:
        writer.publish(snapshots=(*listed, ref))
    except Refused:
        disk.unlink(path)
        raise
    return ref


def truncate(disk: Disk, layout: Layout, writer: WalWriter, before: int) -> None:
    """Segments and snapshots that recovery and `before` do not need are gone.

    Raises: `Refused`.
    """
    current = writer.current
    snapshots = current.snapshots[-SNAPSHOTS_KEPT:]
    if len(snapshots) < SNAPSHOTS_KEPT:
        return
    floor = min(before, snapshots[0].index + 1)
    behind = sum(1 for ref in current.segments[1:] if ref.first_index <= floor)
    segments = current.segments[behind:]
    if (segments, snapshots) == (current.segments, current.snapshots):
        return
    writer.publish(segments=segments, snapshots=snapshots)
    for segment in current.segments[:behind]:
        remove_if_there(disk, segment.path(layout))
    for snapshot in current.snapshots[:-SNAPSHOTS_KEPT]:
        remove_if_there(disk, snapshot.path(layout))


def newest_snapshot(
    disk: Disk, layout: Layout, current: Current
) -> tuple[SnapshotRef | None, list[SnapshotRef]]:
    """The newest that can be trusted, and newer ones that cannot."""
    damaged: list[SnapshotRef] = []
    for ref in reversed(current.snapshots):
        if check_snapshot(disk, ref.path(layout), ref, current.ids) is None:
            return ref, damaged
        damaged.append(ref)
    return None, damaged


def drop_snapshots(
    disk: Disk, layout: Layout, writer: WalWriter, damaged: Sequence[SnapshotRef]
) -> None:
    """They are no longer listed, and kept in lost+found. Raises: `Refused`."""
    kept = tuple(ref for ref in writer.current.snapshots if ref not in damaged)
    writer.publish(snapshots=kept)
    for ref in damaged:
        if disk.stat(ref.path(layout)) is not None:
            set_aside(disk, layout, ref.path(layout), ".corrupt")


def remove_unlisted_snapshots(disk: Disk, layout: Layout, current: Current) -> None:
    """What a crash between two steps of the above left is gone."""
    listed = {(ref.index, ref.epoch_number) for ref in current.snapshots}
    for name in disk.listdir(layout.snapshots):
        parsed = parse_snapshot_name(name)
        if parsed is not None and parsed not in listed:
            disk.unlink(f"{layout.snapshots}/{name}")
