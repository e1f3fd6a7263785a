"""Writing a segment: one commit at a time, each durable before the next is written.

Must never write a commit before the previous one is durable (rule W1): recovery takes a
later commit as the proof that everything before it had been durable.
"""

from __future__ import annotations

from headrace.log.base import Commit, Epoch
from headrace.log.file.disk_io import close_quietly, write_buffers
from headrace.log.file.segment_format import (
    FLAG_SEAL,
    NO_COMMIT_ID,
    SEAL_BYTES,
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    commit_bytes,
    encode_commit,
)
from headrace.log.file.segment_reader import SegmentEnd
from headrace.model.env import Disk


class SegmentWriter:
    """The active segment. After an `OSError` nothing may be written to it again."""

    def __init__(
        self, disk: Disk, fd: int, path: str, header: SegmentHeader, *, size_bytes: int
    ) -> None:
        self.path = path
        self.header = header
        self.size_bytes = size_bytes
        """Reserved on the disk; commits stay below it, and leave room for the seal."""
        self.offset = SEGMENT_HEADER_BYTES
        self.commit_no = header.first_commit_no - 1
        self.index = header.first_index - 1
        self.crc = header.prev_commit_crc
        self.sealed = False
        self._disk = disk
        self._fd = fd
        self._seed = header.seed

    def resume(self, end: SegmentEnd) -> None:
        """The next commit follows `end`."""
        self.offset = end.offset
        self.commit_no = end.commit_no
        self.index = end.index
        self.crc = end.crc
        self.sealed = end.sealed

    def end(self) -> SegmentEnd:
        return SegmentEnd(
            segment_no=self.header.segment_no,
            offset=self.offset,
            commit_no=self.commit_no,
            index=self.index,
            crc=self.crc,
            sealed=self.sealed,
        )

    def fits(self, body_bytes: int) -> bool:
        room = self.size_bytes - self.offset - SEAL_BYTES
        return not self.sealed and commit_bytes(body_bytes) <= room

    def write(self, epoch: Epoch, commit: Commit, flags: int = 0) -> None:
        """The commit is durable. Raises: `OSError`: it may or may not be."""
        commit_no = self.commit_no + 1
        buffers, crc = encode_commit(
            commit,
            seed=self._seed,
            commit_no=commit_no,
            prev_crc=self.crc,
            epoch=epoch,
            flags=flags,
        )
        write_buffers(self._disk, self._fd, buffers, self.offset)
        self._disk.fdatasync(self._fd)
        self.offset += commit_bytes(len(commit.body))
        self.commit_no = commit_no
        self.index += commit.record_count
        self.crc = crc

    def reserve_seal(self) -> None:
        """The seal has room; one that could not grow when it was resumed has none yet."""
        if self.offset + SEAL_BYTES > self.size_bytes:
            self._disk.preallocate(self._fd, self.offset + SEAL_BYTES)
            self.size_bytes = self.offset + SEAL_BYTES

    def seal(self, epoch: Epoch, now_ms: int) -> None:
        """Nothing follows in this segment, durably."""
        self.write(epoch, marker(self.index + 1, now_ms), FLAG_SEAL)
        self.sealed = True

    def trim(self) -> None:
        """The file ends where its commits end. Not synced: zeros behind them mean the same."""
        self._disk.truncate(self._fd, self.offset)
        self.size_bytes = self.offset

    def close(self) -> None:
        close_quietly(self._disk, self._fd)


def marker(first_index: int, now_ms: int, body: bytes = b"") -> Commit:
    """A commit by which the log talks to itself; it uses up no index."""
    return Commit(NO_COMMIT_ID, first_index, 0, now_ms, body)
