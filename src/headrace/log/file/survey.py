"""What a directory is, without touching it: for `headrace doctor`, also on a live one."""

from __future__ import annotations

import msgspec

from headrace.log.file.current import Current, SegmentRef, SnapshotRef, read_current
from headrace.log.file.directory import check_directory, list_if_there
from headrace.log.file.disk_io import reading
from headrace.log.file.layout import Layout
from headrace.log.file.lock import Holder, in_use, read_holder
from headrace.log.file.recovery import Found, look_again
from headrace.log.file.segment_reader import SegmentFiles
from headrace.log.file.watermark import Watermark
from headrace.model.env import LogEnv
from headrace.model.errors import StopError


class SegmentRow(msgspec.Struct, frozen=True):
    name: str
    segment_no: int
    first_index: int
    first_commit_no: int
    size_bytes: int
    created_at_ms: int
    """0 when its header cannot be read."""


class SnapshotRow(msgspec.Struct, frozen=True):
    name: str
    index: int
    epoch_number: int
    size_bytes: int
    present: bool


class Leftover(msgspec.Struct, frozen=True):
    name: str
    size_bytes: int


class Survey(msgspec.Struct, frozen=True):
    """Facts only. Fields that cannot be known because of `problem` have their defaults."""

    root: str
    filesystem: str
    free_bytes: int
    holder: Holder
    """Who wrote LOCK last; it holds it only if `in_use`."""
    in_use: bool | None
    """None when the holder is on another host: nobody here can tell."""
    problem: str = ""
    """What `headrace serve` would refuse with; empty when it would start."""
    format: int = 0
    cluster_id: str = ""
    node_id: str = ""
    epoch_number: int = 0
    leader: str = ""
    closed_clean: bool = False
    first_index: int = 1
    last_index: int = 0
    last_commit_no: int = 0
    watermark: Watermark = Watermark()
    torn_bytes: int = 0
    """Of a commit that was being written: by a process that died, or by one that lives."""
    segments: tuple[SegmentRow, ...] = ()
    snapshots: tuple[SnapshotRow, ...] = ()
    lost_found: tuple[Leftover, ...] = ()

    @property
    def watermark_gap(self) -> int:
        """Commits that only their own checksums vouch for."""
        return max(self.last_commit_no - self.watermark.commit_no, 0)


def survey(env: LogEnv, directory: str) -> Survey:
    """Raises nothing that is wrong with the data: that is `problem`. Raises: `DiskFailed`."""
    layout = Layout(directory.rstrip("/") or "/")
    with reading(layout.root):
        return _survey(env, layout)


def _survey(env: LogEnv, layout: Layout) -> Survey:
    if env.disk.stat(layout.root) is None:
        return Survey(layout.root, "", 0, Holder(), False, problem=f"{layout.root} is missing.")
    holder = read_holder(env.disk, layout)
    facts = Survey(
        root=layout.root,
        filesystem=env.disk.filesystem(layout.root),
        free_bytes=env.disk.free_bytes(layout.root),
        holder=holder,
        in_use=in_use(env, holder),
        lost_found=_leftovers(env, layout),
    )
    try:
        check_directory(env, layout)
        current = read_current(env.disk, layout)
    except FileNotFoundError:
        return msgspec.structs.replace(facts, problem=f"{layout.current} is missing.")
    except StopError as error:
        return msgspec.structs.replace(facts, problem=str(error))
    facts = _with_current(env, layout, facts, current)
    try:
        return _with_end(facts, look_again(env.disk, layout))
    except StopError as error:
        return msgspec.structs.replace(facts, problem=str(error))


def _with_current(env: LogEnv, layout: Layout, facts: Survey, current: Current) -> Survey:
    files = SegmentFiles(env.disk, layout, current.ids)
    return msgspec.structs.replace(
        facts,
        format=current.format,
        cluster_id=current.cluster_id,
        node_id=current.node_id,
        epoch_number=current.epoch_number,
        leader=current.leader,
        closed_clean=current.clean,
        first_index=current.segments[0].first_index if current.segments else 1,
        segments=tuple(_segment_row(files, ref) for ref in current.segments),
        snapshots=tuple(_snapshot_row(env, layout, ref) for ref in current.snapshots),
    )


def _with_end(facts: Survey, found: Found) -> Survey:
    end = found.end
    return msgspec.structs.replace(
        facts,
        last_index=end.index if end else 0,
        last_commit_no=end.commit_no if end else 0,
        watermark=found.watermark,
        torn_bytes=len(found.torn),
    )


def _segment_row(files: SegmentFiles, ref: SegmentRef) -> SegmentRow:
    path = ref.path(files.layout)
    found = files.disk.stat(path)
    try:
        header = files.header(path)
    except (FileNotFoundError, StopError):
        header = None
    return SegmentRow(
        name=path.rpartition("/")[2],
        segment_no=ref.segment_no,
        first_index=ref.first_index,
        first_commit_no=ref.first_commit_no,
        size_bytes=found.size_bytes if found else 0,
        created_at_ms=header.created_at_ms if header else 0,
    )


def _snapshot_row(env: LogEnv, layout: Layout, ref: SnapshotRef) -> SnapshotRow:
    path = ref.path(layout)
    return SnapshotRow(
        name=path.rpartition("/")[2],
        index=ref.index,
        epoch_number=ref.epoch_number,
        size_bytes=ref.size_bytes,
        present=env.disk.stat(path) is not None,
    )


def _leftovers(env: LogEnv, layout: Layout) -> tuple[Leftover, ...]:
    found = []
    for name in list_if_there(env.disk, layout.lost_found):
        stat = env.disk.stat(f"{layout.lost_found}/{name}")
        found.append(Leftover(name, stat.size_bytes if stat else 0))
    return tuple(found)
