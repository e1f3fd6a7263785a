"""Final jobs: kept whole in their queue's ring, then for a while by id alone.

A final job is packed to one `bytes`. Its queue's ring keeps it until retention (age,
count, bytes) drops it; its id stays known for `REMEMBER_MS` after its end in any case,
which is what makes a repeated call safe.

Each end has a number, growing by one. Rings and the order of ended ids are queues of
these ends; an entry whose job has been revived or deleted is passed over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import msgspec

from headrace.engine.table import Table
from headrace.model.rows import Finished

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Finished)

_PAGE_IDS = 4096


def pack(finished: Finished) -> bytes:
    return _ENCODER.encode(finished)


def unpack(packed: bytes) -> Finished:
    return _DECODER.decode(packed)


class RingEntry(msgspec.Struct, gc=False):
    job_id: bytes
    packed: bytes
    ended_no: int
    ended_at_ms: int


class Ring:
    """Final jobs of one queue, oldest first.

    Invariant: `count` and `size_bytes` are of its live entries, those whose `packed` is
    the very object in the table of ended jobs.
    """

    __slots__ = ("count", "entries", "size_bytes")

    def __init__(self) -> None:
        self.entries: deque[RingEntry] = deque()
        self.count = 0
        self.size_bytes = 0

    def add(self, entry: RingEntry) -> None:
        self.entries.append(entry)
        self.count += 1
        self.size_bytes += len(entry.packed)

    def leave(self, packed: bytes) -> None:
        """A live entry's job was revived or deleted."""
        self.count -= 1
        self.size_bytes -= len(packed)

    def drop_head(self) -> None:
        """The first entry, live or not, is no longer in the ring."""
        self.entries.popleft()


class EndedOrder:
    """Ids in the order in which their jobs ended, with the log time of each end.

    Pages are lists that only grow, so a snapshot takes the list of pages and not a copy
    of every id.
    """

    __slots__ = ("_head", "_pages", "_runs", "first_no", "next_no")

    def __init__(self, first_no: int = 0) -> None:
        self._pages: deque[list[bytes]] = deque()
        self._head = 0
        """Ids at the front of the first page that are forgotten."""
        self._runs: deque[tuple[int, int]] = deque()
        """(number after the last end at that time, log time)."""
        self.first_no = first_no
        self.next_no = first_no

    def add(self, job_id: bytes, now_ms: int) -> int:
        """The number of this end."""
        if not self._pages or len(self._pages[-1]) == _PAGE_IDS:
            self._pages.append([])
        self._pages[-1].append(job_id)
        number = self.next_no
        self.next_no += 1
        if self._runs and self._runs[-1][1] == now_ms:
            self._runs[-1] = (self.next_no, now_ms)
        else:
            self._runs.append((self.next_no, now_ms))
        return number

    def ended_by(self, at_ms: int, count_max: int) -> int:
        """How many of the oldest ids ended at or before `at_ms`, at most `count_max`."""
        count = 0
        for next_no, ended_at_ms in self._runs:
            if ended_at_ms > at_ms:
                break
            count = next_no - self.first_no
            if count >= count_max:
                return count_max
        return count

    def first_at_ms(self) -> int | None:
        return self._runs[0][1] if self._runs else None

    def pop(self) -> bytes:
        """The oldest id. Raises: `IndexError` when there is none."""
        page = self._pages[0]
        job_id = page[self._head]
        self._head += 1
        if self._head == len(page):
            self._pages.popleft()
            self._head = 0
        self.first_no += 1
        while self._runs and self._runs[0][0] <= self.first_no:
            self._runs.popleft()
        return job_id

    def pages(self) -> list[tuple[list[bytes], int, int]]:
        """(page, from, to) of what it holds now; pages only grow, so this stays true."""
        found = [(page, 0, len(page)) for page in self._pages]
        if found:
            page, _, end = found[0]
            found[0] = (page, self._head, end)
        return found

    def runs(self) -> list[tuple[int, int]]:
        """(log time, how many ended then), oldest first."""
        found: list[tuple[int, int]] = []
        before = self.first_no
        for next_no, at_ms in self._runs:
            found.append((at_ms, next_no - before))
            before = next_no
        return found

    def load_ids(self, job_ids: list[bytes]) -> None:
        """Append ids whose times are loaded by `load_runs`."""
        for start in range(0, len(job_ids), _PAGE_IDS):
            self._pages.append(job_ids[start : start + _PAGE_IDS])
        self.next_no += len(job_ids)

    def load_runs(self, runs: list[tuple[int, int]]) -> None:
        number = self.first_no
        for at_ms, count in runs:
            number += count
            self._runs.append((number, at_ms))

    def __len__(self) -> int:
        return self.next_no - self.first_no


Ended = Table["bytes | int"]
"""Id → the packed `Finished`, or, when only the id is remembered, `tombstone(...)`."""


def tombstone(token: int, state: int) -> int:
    return token << 3 | state


def tombstone_token(value: int) -> int:
    return value >> 3


def tombstone_state(value: int) -> int:
    return value & 7


def live_entries(ring: Ring, ended: Ended) -> Iterator[RingEntry]:
    """Its live entries, oldest first."""
    return (entry for entry in ring.entries if ended.get(entry.job_id) is entry.packed)
