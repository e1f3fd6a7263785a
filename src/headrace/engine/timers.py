"""Timers: jobs that become due, in order of (time, number).

One heap, cleaned lazily: an entry whose job has moved on is passed over when it comes to
the front, and the heap is rebuilt when most of it has moved on.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from itertools import islice

from headrace.engine.job import Job

_COMPACT_MIN = 64

Entry = tuple[int, int, Job]


class Timers:
    """Invariant: every job for which `is_live` holds has exactly one live entry."""

    __slots__ = ("_heap", "_is_live", "_scan_at", "count")

    def __init__(self, is_live: Callable[[Job, int], bool]) -> None:
        self._heap: list[Entry] = []
        self._is_live = is_live
        """(job, number of its entry) → whether this entry still speaks of it."""
        self._scan_at = 0
        self.count = 0
        """Live entries."""

    def add(self, at_ms: int, number: int, job: Job) -> None:
        heapq.heappush(self._heap, (at_ms, number, job))
        self.count += 1

    def leave(self) -> None:
        """One live entry's job has moved on (and `is_live` says so already)."""
        self.count -= 1
        if len(self._heap) > 2 * self.count + _COMPACT_MIN:
            self._heap = [entry for entry in self._heap if self._is_live(entry[2], entry[1])]
            heapq.heapify(self._heap)

    def next_at_ms(self) -> int | None:
        """When the first live entry is due."""
        heap = self._heap
        while heap and not self._is_live(heap[0][2], heap[0][1]):
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now_ms: int, count_max: int) -> int:
        """How many live entries are due, at most `count_max`. Takes none."""
        found: list[Entry] = []
        while len(found) < count_max:
            at_ms = self.next_at_ms()
            if at_ms is None or at_ms > now_ms:
                break
            found.append(heapq.heappop(self._heap))
        for entry in found:
            heapq.heappush(self._heap, entry)
        return len(found)

    def first(self) -> Job:
        """The first live job. Raises: `IndexError` when there is none."""
        self.next_at_ms()
        return self._heap[0][2]

    def scan(self, count: int) -> list[Job]:
        """The live jobs among `count` entries, from where the scan before this one ended.

        Repeated often enough it comes by every job, in no particular order.
        """
        size = len(self._heap)
        start = self._scan_at if self._scan_at < size else 0
        self._scan_at = start + count
        seen = islice(self._heap, start, start + count)
        return [entry[2] for entry in seen if self._is_live(entry[2], entry[1])]

    def live_jobs(self) -> Iterator[Job]:
        """Its jobs, in no particular order."""
        return (entry[2] for entry in self._heap if self._is_live(entry[2], entry[1]))
