"""Ids of jobs that have ended, remembered for `REMEMBER_MS` after their end.

That is what makes a repeated call safe, so it must hold at any rate: at 40,000 jobs a
second, 4.8 million ids. A dict of them would take over 600 MB; here an id costs 24 bytes.

Ends are collected in a dict, the open slice. When it is full, or spans more than
`SLICE_MS`, it is closed: ids sorted into one `bytes`, values beside them. Slices are
immutable, so a snapshot takes them as they are; forgetting drops whole slices from the
old end, and an id may therefore be known a little longer than promised, never shorter.

A look-up goes through the slices whose range of creation times (an id is a UUIDv7) holds
the id's own: a new job was created after everything in a closed slice, and costs one
comparison. Where clocks of clients are off, ranges overlap, and thousands of slices would
have to be searched for each new job (measured: 0.9 ms at 1.2 million ids). So slices stand in
chapters, and chapters that are asked get a filter, slice by slice (Bloom, "Space/time trade-offs
in hash coding with allowable errors", CACM 1970) of the random end of its ids.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator

import msgspec

from headrace.model.ids import ID_BYTES, created_ms_of_id
from headrace.model.rows import RememberedRow

SLICE_IDS = 4096
"""Sorting so many takes about a millisecond."""
SLICE_MS = 10_000
CHAPTER_SLICES = 16

_VALUE_BYTES = 8


class Remembrance(msgspec.Struct, frozen=True, gc=False):
    """What is still known of an ended job: the lease that it ended under, and how."""

    token: int
    state: int


class Slice(msgspec.Struct, frozen=True, gc=False):
    """Ids of ends that followed one another, closed."""

    ids: bytes
    """Sorted, 16 bytes each."""
    values: bytes
    """Token × 8 + state, 8 bytes each, big-endian, in the order of `ids`."""
    last_at_ms: int
    created_from_ms: int
    created_to_ms: int

    @property
    def count(self) -> int:
        return len(self.ids) // ID_BYTES

    def find(self, job_id: bytes) -> Remembrance | None:
        ids = self.ids
        place = bisect_left(
            range(self.count),
            job_id,
            key=lambda at: ids[at * ID_BYTES : (at + 1) * ID_BYTES],
        )
        if ids[place * ID_BYTES : (place + 1) * ID_BYTES] != job_id:
            return None
        value = self.values[place * _VALUE_BYTES : (place + 1) * _VALUE_BYTES]
        return _remembrance(int.from_bytes(value, "big"))

    def row(self) -> RememberedRow:
        return RememberedRow(self.last_at_ms, self.ids, self.values)


def _remembrance(value: int) -> Remembrance:
    return Remembrance(value >> 3, value & 7)


def _closed(entries: dict[bytes, int], last_at_ms: int) -> Slice:
    ids = sorted(entries)
    values = [entries[job_id].to_bytes(_VALUE_BYTES, "big") for job_id in ids]
    return _slice(b"".join(ids), b"".join(values), last_at_ms)


def _slice(ids: bytes, values: bytes, last_at_ms: int) -> Slice:
    """Sorted ids are in order of their creation: that is how a UUIDv7 begins."""
    first, last = ids[:ID_BYTES], ids[-ID_BYTES:]
    return Slice(ids, values, last_at_ms, created_ms_of_id(first), created_ms_of_id(last))


class Chapter:
    """Some slices that followed one another, with a filter in front.

    Invariant: the filter has every id of its slices but those in `_unfiltered`, its newest.
    """

    __slots__ = ("_bits", "_unfiltered", "created_from_ms", "created_to_ms", "slices")

    def __init__(self) -> None:
        self.slices: deque[Slice] = deque()
        self.created_from_ms = 1 << 62
        self.created_to_ms = -1
        self._bits = bytearray()
        self._unfiltered: deque[Slice] = deque()

    def append(self, closed: Slice) -> None:
        self.slices.append(closed)
        self._unfiltered.append(closed)
        self.created_from_ms = min(self.created_from_ms, closed.created_from_ms)
        self.created_to_ms = max(self.created_to_ms, closed.created_to_ms)

    def drop_oldest(self) -> Slice:
        dropped = self.slices.popleft()
        if self._unfiltered and self._unfiltered[0] is dropped:
            self._unfiltered.popleft()
        return dropped

    def find(self, job_id: bytes, created_ms: int) -> Remembrance | None:
        """What the newest slice with this id says."""
        found = _search(self._unfiltered, job_id, created_ms)
        if found is None and self._bits and self._may_have(job_id):
            found = _search(self.slices, job_id, created_ms)
        return found

    def filter_one(self) -> bool:
        """One slice more is in the filter: two milliseconds; False when all are."""
        if not self._unfiltered:
            return False
        if not self._bits:
            self._bits = bytearray(_FILTER_BITS // 8)
        _add_to_filter(self._bits, self._unfiltered.popleft().ids)
        return True

    def _may_have(self, job_id: bytes) -> bool:
        bits = self._bits
        first, second = _places(job_id)
        return bool(bits[first >> 3] >> (first & 7) & bits[second >> 3] >> (second & 7) & 1)


def _search(slices: deque[Slice], job_id: bytes, created_ms: int) -> Remembrance | None:
    for closed in reversed(slices):
        if closed.created_from_ms <= created_ms <= closed.created_to_ms:
            found = closed.find(job_id)
            if found is not None:
                return found
    return None


_FILTER_BITS = 1 << 21
"""Of a full chapter one id in 280 that it does not have gets through."""


def _places(job_id: bytes) -> tuple[int, int]:
    """Two places of the filter, from the random bits at the end of a UUIDv7."""
    tail = int.from_bytes(job_id[-6:], "big")
    return tail & (_FILTER_BITS - 1), tail >> 21 & (_FILTER_BITS - 1)


def _add_to_filter(bits: bytearray, ids: bytes) -> None:
    for at in range(0, len(ids), ID_BYTES):
        for place in _places(ids[at : at + ID_BYTES]):
            bits[place >> 3] |= 1 << (place & 7)


class Remembered:
    """Invariant: slices are in order of their ends, and the open one comes after them."""

    __slots__ = (
        "_chapters",
        "_created_to_ms",
        "_open",
        "_open_since_ms",
        "_open_until_ms",
    )

    def __init__(self) -> None:
        self._chapters: deque[Chapter] = deque()
        self._open: dict[bytes, int] = {}
        self._open_since_ms = 0
        self._open_until_ms = 0
        self._created_to_ms = -1
        """No id in a closed slice was created after this."""

    def add(self, job_id: bytes, token: int, state: int, now_ms: int) -> None:
        """Its job has ended now. A later end of the same id (it was revived) comes first."""
        opened = self._open
        if opened and (len(opened) >= SLICE_IDS or now_ms - self._open_since_ms > SLICE_MS):
            self._close_slice()
            opened = self._open
        if not opened:
            self._open_since_ms = now_ms
        self._open_until_ms = now_ms
        opened[job_id] = token << 3 | state

    def _close_slice(self) -> None:
        self._append(_closed(self._open, self._open_until_ms))
        self._open = {}

    def _append(self, closed: Slice) -> None:
        if not self._chapters or len(self._chapters[-1].slices) >= CHAPTER_SLICES:
            self._chapters.append(Chapter())
        self._chapters[-1].append(closed)
        self._created_to_ms = max(self._created_to_ms, closed.created_to_ms)

    def get(self, job_id: bytes) -> Remembrance | None:
        """What is known of its newest end."""
        value = self._open.get(job_id)
        if value is not None:
            return _remembrance(value)
        created_ms = created_ms_of_id(job_id)
        if created_ms > self._created_to_ms:
            return None
        filtered = False
        for chapter in reversed(self._chapters):
            if chapter.created_from_ms <= created_ms <= chapter.created_to_ms:
                found = chapter.find(job_id, created_ms)
                if found is not None:
                    return found
                filtered = filtered or chapter.filter_one()
        return None

    def _slices(self) -> Iterator[Slice]:
        """Oldest first."""
        return (closed for chapter in self._chapters for closed in chapter.slices)

    def first_due_ms(self) -> int | None:
        """Log time of the newest end in the oldest slice: that slice is forgotten as a whole."""
        if self._chapters:
            return self._chapters[0].slices[0].last_at_ms
        return self._open_until_ms if self._open else None

    def ended_by(self, at_ms: int, count_max: int) -> int:
        """Ids in the oldest slices that ended at or before `at_ms`.

        At most about `count_max`, and always whole slices.
        """
        count = 0
        for closed in self._slices():
            if closed.last_at_ms > at_ms or count >= count_max:
                return count
            count += closed.count
        if self._open and self._open_until_ms <= at_ms and count < count_max:
            count += len(self._open)
        return count

    def forget(self, count: int) -> None:
        """The oldest slices, `count` ids in all, are dropped."""
        while count > 0 and self._chapters:
            count -= self._chapters[0].drop_oldest().count
            if not self._chapters[0].slices:
                self._chapters.popleft()
        if count > 0:
            count -= len(self._open)
            self._open = {}
        if count:
            raise ValueError(f"{count} ids more than whole slices hold")
        self._created_to_ms = max((each.created_to_ms for each in self._chapters), default=-1)

    def rows(self) -> list[RememberedRow]:
        """Everything remembered, oldest first; the last row is the open slice, if any."""
        found = [closed.row() for closed in self._slices()]
        if self._open:
            open_row = _closed(self._open, self._open_until_ms).row()
            open_row.open_since_ms = self._open_since_ms
            found.append(open_row)
        return found

    def load(self, row: RememberedRow) -> None:
        """Rows come in the order of `rows`."""
        if not row.open_since_ms:
            self._append(_slice(row.ids, row.values, row.last_at_ms))
            return
        self._open_since_ms = row.open_since_ms
        self._open_until_ms = row.last_at_ms
        self._open = {
            row.ids[at * ID_BYTES : (at + 1) * ID_BYTES]: int.from_bytes(
                row.values[at * _VALUE_BYTES : (at + 1) * _VALUE_BYTES], "big"
            )
            for at in range(len(row.ids) // ID_BYTES)
        }

    def __len__(self) -> int:
        return sum(closed.count for closed in self._slices()) + len(self._open)
