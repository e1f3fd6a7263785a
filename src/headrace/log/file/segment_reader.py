"""Reading a segment: its commits in order, and what lies where they stop.

Never decides what a bad place means; `recovery_table` does, from the facts given here.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from headrace.log.file.disk_io import opened, read_exactly, read_whole, reading
from headrace.log.file.layout import Layout
from headrace.log.file.segment_format import (
    COMMIT_ALIGN_BYTES,
    COMMIT_MAGIC,
    FLAG_SEAL,
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    StoredCommit,
    commit_no_at,
    decode_commit,
    decode_segment_header,
    refuse_stranger,
)
from headrace.model.env import Disk
from headrace.model.errors import FormatNewer


class SegmentEnd(msgspec.Struct, frozen=True):
    """Where the valid commits of a segment end, and what its successor must link to."""

    segment_no: int
    offset: int
    commit_no: int
    """Of its last commit; that of the segment before when it has none."""

    index: int
    crc: int
    sealed: bool


class SegmentCursor:
    """Goes through the commits of one segment held in memory.

    Invariant: everything before `offset` is valid and chained without a gap.
    """

    def __init__(self, header: SegmentHeader, content: bytes) -> None:
        self.header = header
        self.content = content
        self.offset = SEGMENT_HEADER_BYTES
        self.next_commit_no = header.first_commit_no
        self.next_index = header.first_index
        self.crc = header.prev_commit_crc
        self.sealed = False
        self.misplaced: StoredCommit | None = None
        """A valid commit that stands where another one belongs."""

    def read(self) -> StoredCommit | None:
        """The next commit; None at the seal, at the end, or at a bad place.

        Raises: `FormatNewer`.
        """
        if self.sealed or self.misplaced is not None:
            return None
        stored = decode_commit(self.content, self.offset, self.header.seed)
        if stored is None:
            return None
        if not self._follows(stored):
            self.misplaced = stored
            return None
        if stored.is_newer:
            raise FormatNewer(
                f"segment {self.header.segment_no}, offset {self.offset}: commit "
                f"{stored.commit_no} has version {stored.version} and flags {stored.flags:#x}, "
                "which this headrace does not know.",
                hint="Start the version that wrote it.",
            )
        self.offset = stored.end_offset
        self.next_commit_no += 1
        self.next_index += stored.commit.record_count
        self.crc = stored.content_crc
        self.sealed = bool(stored.flags & FLAG_SEAL)
        return stored

    def __iter__(self) -> Iterator[StoredCommit]:
        while (stored := self.read()) is not None:
            yield stored

    def _follows(self, stored: StoredCommit) -> bool:
        return (
            stored.commit_no == self.next_commit_no
            and stored.commit.first_index == self.next_index
            and stored.prev_crc == self.crc
        )

    def end(self) -> SegmentEnd:
        return SegmentEnd(
            segment_no=self.header.segment_no,
            offset=self.offset,
            commit_no=self.next_commit_no - 1,
            index=self.next_index - 1,
            crc=self.crc,
            sealed=self.sealed,
        )

    def rest(self) -> bytes:
        """What follows the valid commits, without the zeros at its end."""
        rest = self.content[self.offset :]
        return b"" if rest == bytes(len(rest)) else rest.rstrip(b"\0")

    def later_commit_offset(self) -> int | None:
        """Offset of a valid header behind the bad place that proves the place was durable.

        A commit is written only after the one before it is durable, so whatever precedes
        a commit with a greater number had been durable.
        """
        found = self.offset
        while True:
            found = self.content.find(COMMIT_MAGIC, found + 1)
            if found < 0:
                return None
            if found % COMMIT_ALIGN_BYTES:
                continue
            commit_no = commit_no_at(self.content, found, self.header.seed)
            if commit_no is not None and commit_no > self.next_commit_no:
                return found


def links(header: SegmentHeader, end: SegmentEnd) -> bool:
    """The segment of `header` continues the one that ends at `end`."""
    return (
        end.sealed
        and header.prev_segment_no == end.segment_no
        and header.prev_commit_no == end.commit_no == header.first_commit_no - 1
        and header.prev_commit_crc == end.crc
        and header.prev_size_bytes == end.offset
        and header.first_index == end.index + 1
    )


class SegmentFiles(msgspec.Struct, frozen=True):
    """Opens segments of one directory; files of another node are refused."""

    disk: Disk
    layout: Layout
    ids: tuple[bytes, bytes]
    """(cluster id, node id)"""

    def header(self, path: str) -> SegmentHeader | None:
        """None when damaged. Raises: `FileNotFoundError`; `FormatNewer`; `IdMismatch`."""
        with reading(path), opened(self.disk, path) as fd:
            raw = read_exactly(self.disk, fd, SEGMENT_HEADER_BYTES, 0)
        return self._accept(raw, path)

    def cursor(self, path: str, *, from_medium: bool = False) -> SegmentCursor | None:
        """At its first commit; None when the header is damaged. Raises: as `header`.

        The whole segment is held in memory: at most one is, and its size is bounded.
        """
        content = read_whole(self.disk, path, from_medium=from_medium)
        header = self._accept(content, path)
        return None if header is None else SegmentCursor(header, content)

    def _accept(self, raw: bytes, path: str) -> SegmentHeader | None:
        header = decode_segment_header(raw, path)
        if header is not None:
            refuse_stranger(path, (header.cluster_id, header.node_id), self.ids)
        return header
