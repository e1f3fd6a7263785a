"""A bit that rots in a file at rest, and the one complaint that it may cause.

Readers must name just the piece of the file that the bit belongs to: not only that something
is wrong. What no checksum covers (padding, and what lies behind a seal) is read by nobody, and
must cause nothing.
"""

from __future__ import annotations

import msgspec

from headrace.log.file.current import Current, decode_current
from headrace.log.file.layout import Layout
from headrace.log.file.segment_format import (
    BODY_OFFSET,
    SEGMENT_HEADER_BYTES,
    decode_segment_header,
)
from headrace.log.file.segment_reader import SegmentCursor
from headrace.log.file.snapshot_file import SNAPSHOT_HEADER_BYTES, TRAILER_BYTES
from headrace.model.errors import LogCorrupt, NoSnapshot, StopError
from headrace.sim.conditions import DIRECTORY
from headrace.testing.sim_disk import SimDisk


class Damage(msgspec.Struct, frozen=True):
    """What is to be said of it."""

    code: str
    path: str
    offset: int
    """Where the piece begins that the bit belongs to."""

    def __str__(self) -> str:
        return f"{self.code} {self.path} offset {self.offset}"

    def explains(self, error: StopError) -> bool:
        """A start may fail with it because of this damage, and of nothing else."""
        if error.stop_code != self.code:
            return False
        if isinstance(error, NoSnapshot):
            return True  # it names no file: none is left that could be used
        return (error.details.get("path"), error.details.get("offset")) == (self.path, self.offset)


class Rotten(msgspec.Struct, frozen=True):
    """A bit that is wrong on the medium."""

    path: str
    content: bytes
    """Of the file, with that bit."""
    offset: int
    bits: int

    @property
    def right(self) -> bytes:
        content = bytearray(self.content)
        content[self.offset] ^= self.bits
        return bytes(content)

    def is_there(self, disk: SimDisk) -> bool:
        """The file is neither gone nor written anew."""
        folder, _, name = self.path.rpartition("/")
        return name in disk.peek_names(folder) and disk.peek(self.path) == self.content

    def damage(self, disk: SimDisk) -> Damage | None:
        """None: nobody reads that bit."""
        layout = Layout(DIRECTORY)
        current = decode_current(disk.peek(layout.current), layout.current, layout.root)
        if self.is_there(disk) and self.path in _listed(current, layout):
            return self._in_snapshot() if "/snapshots/" in self.path else self._in_segment()
        return None

    def _in_snapshot(self) -> Damage:
        trailer_offset = len(self.content) - TRAILER_BYTES
        in_trailer = self.offset >= max(trailer_offset, SNAPSHOT_HEADER_BYTES)
        return Damage(NoSnapshot.stop_code, self.path, trailer_offset if in_trailer else 0)

    def _in_segment(self) -> Damage | None:
        if self.offset < SEGMENT_HEADER_BYTES:
            return Damage(LogCorrupt.stop_code, self.path, 0)
        right = self.right
        header = decode_segment_header(right, self.path)
        for stored in SegmentCursor(header, right) if header is not None else ():
            checked_end = stored.offset + BODY_OFFSET + len(stored.commit.body)
            if stored.offset <= self.offset < checked_end:
                return Damage(LogCorrupt.stop_code, self.path, stored.offset)
        return None


def rot(disk: SimDisk, path: str, offset: int, bits: int) -> Rotten:
    """These bits are wrong from here on."""
    content = bytearray(disk.peek(path))
    content[offset] ^= bits
    disk.poke(path, bytes(content))
    return Rotten(path, bytes(content), offset, bits)


def _listed(current: Current, layout: Layout) -> set[str]:
    segments = {ref.path(layout) for ref in current.segments}
    return segments | {ref.path(layout) for ref in current.snapshots}
