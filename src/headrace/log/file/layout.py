"""Names and paths of everything in a data directory, and the commands that mend it.

Nothing else in the log puts a path together, so this file is the map of a directory:

    LOCK                                        held by the process that leads; says which
    meta/CURRENT                                what the directory consists of
    meta/WATERMARK                              how far it is known to be durable
    wal/<first_index:020d>-<segment_no:08x>.wal
    snapshots/<index:020d>-<epoch:08x>.snap
    lost+found/                                 what recovery and repair took out
"""

from __future__ import annotations

import re

import msgspec

FORMAT_VERSION = 1
"""Of the whole directory: CURRENT, WATERMARK, segments, snapshots.

To bump it: write the new format only in new files, keep every older reader, set
MIN_READER to the oldest version whose reader still understands what is written, and add
`spec/vectors/data-v<N>/` made by the release that first writes it.
"""
MIN_READER = 1

TEMPORARY = ".tmp"
_SEGMENT_NAME = re.compile(r"(\d{20})-([0-9a-f]{8,16})\.wal", re.ASCII)
_SNAPSHOT_NAME = re.compile(r"(\d{20})-([0-9a-f]{8,16})\.snap", re.ASCII)


class Layout(msgspec.Struct, frozen=True):
    """Paths inside one data directory."""

    root: str
    """Absolute, without a slash at the end."""

    @property
    def lock(self) -> str:
        return f"{self.root}/LOCK"

    @property
    def meta(self) -> str:
        return f"{self.root}/meta"

    @property
    def current(self) -> str:
        return f"{self.meta}/CURRENT"

    @property
    def watermark(self) -> str:
        return f"{self.meta}/WATERMARK"

    @property
    def wal(self) -> str:
        return f"{self.root}/wal"

    @property
    def spare(self) -> str:
        """The next segment, reserved on the disk before it is needed."""
        return f"{self.wal}/spare{TEMPORARY}"

    @property
    def probe(self) -> str:
        return f"{self.wal}/probe{TEMPORARY}"

    @property
    def snapshots(self) -> str:
        return f"{self.root}/snapshots"

    @property
    def lost_found(self) -> str:
        return f"{self.root}/lost+found"

    @property
    def directories(self) -> tuple[str, ...]:
        return (self.meta, self.wal, self.snapshots, self.lost_found)

    def segment(self, first_index: int, segment_no: int) -> str:
        return f"{self.wal}/{segment_name(first_index, segment_no)}"

    def snapshot(self, index: int, epoch_number: int) -> str:
        return f"{self.snapshots}/{snapshot_name(index, epoch_number)}"


def segment_name(first_index: int, segment_no: int) -> str:
    return f"{first_index:020d}-{segment_no:08x}.wal"


def snapshot_name(index: int, epoch_number: int) -> str:
    return f"{index:020d}-{epoch_number:08x}.snap"


def parse_segment_name(name: str) -> tuple[int, int] | None:
    """(first_index, segment_no), or None when it is not the name of a segment."""
    return _parse(_SEGMENT_NAME, name)


def parse_snapshot_name(name: str) -> tuple[int, int] | None:
    """(index, epoch number), or None when it is not the name of a snapshot."""
    return _parse(_SNAPSHOT_NAME, name)


def _parse(pattern: re.Pattern[str], name: str) -> tuple[int, int] | None:
    match = pattern.fullmatch(name)
    return (int(match[1]), int(match[2], 16)) if match else None


def base_name(path: str) -> str:
    return path.rpartition("/")[2]


def root_of(path: str) -> str:
    """The data directory that a file in `wal`, `snapshots` or `meta` belongs to."""
    return path.rpartition("/")[0].rpartition("/")[0]


# --- what to do next, as operators type it


def advise_verify(root: str) -> str:
    return (
        f"Run `headrace verify {root}` to see what is damaged, and restore a backup or see "
        f"`headrace repair --help`."
    )


def advise_truncate(path: str, offset: int) -> str:
    """To drop everything from `offset` of the segment at `path` on."""
    return (
        f"Restore a backup; or, to go on without what follows that place, run "
        f"`headrace repair {root_of(path)} --truncate-at {base_name(path)}:{offset}`, which "
        "first says what would be lost."
    )


def advise_rebuild(root: str) -> str:
    return f"Run `headrace repair {root} --rebuild-current`."


COPY_AGAIN = "If this is a plain copy of a directory in use, copy it again with `headrace backup`."


def advise_copy(root: str) -> str:
    return f"{COPY_AGAIN} {advise_verify(root)}"
