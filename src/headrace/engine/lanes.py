"""Lanes: the ready jobs of one queue, so that a claim costs O(kinds), not O(jobs).

A lane is (queue, priority, kind); each job in it has its engine-wide `number`, and the
job with the lowest number among the lanes that a session may serve comes first.
A million ready jobs of a kind that nobody handles stand in a lane that nobody looks at.

Lanes are an index: they can be rebuilt from the jobs alone. An entry whose job has moved
on is passed over when it comes to the front; when more than half of a lane has moved on,
the lane is rebuilt.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from itertools import islice

from headrace.engine.job import READY, Job

_COMPACT_MIN = 64


class Lane:
    """Ready jobs of one queue, priority and kind, in order of `number`.

    Invariant: `count` is how many of its entries are live; a live entry's job is READY
    and is the very object that the job table holds.
    """

    __slots__ = ("count", "priority", "queue_order", "returned", "returned_count")

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.queue_order: deque[Job] = deque()
        self.returned: list[tuple[int, int, Job]] = []
        """Released jobs keep their number: a heap of (number, order of coming, job)."""
        self.returned_count = 0
        """Entries ever; breaks ties between a job and an older copy of it."""
        self.count = 0

    def add(self, job: Job) -> None:
        order = self.queue_order
        if order and job.number < order[-1].number:
            self.returned_count += 1
            heapq.heappush(self.returned, (job.number, self.returned_count, job))
        else:
            order.append(job)
        self.count += 1

    def leave(self, job: Job) -> None:
        """`job`, still READY, is about to be claimed, moved or ended.

        Cheap at the front, lazy elsewhere. A claim takes from the front only, so a
        released job never finds an old entry of itself.
        """
        self.count -= 1
        self._trim()
        order, returned = self.queue_order, self.returned
        if order and order[0] is job:
            order.popleft()
        elif returned and returned[0][2] is job:
            heapq.heappop(returned)
        if len(order) + len(returned) > 2 * self.count + _COMPACT_MIN:
            self._compact(job)

    def _trim(self) -> None:
        """No entry that has moved on stands at the front."""
        order, returned = self.queue_order, self.returned
        while order and order[0].state != READY:
            order.popleft()
        while returned and returned[0][2].state != READY:
            heapq.heappop(returned)

    def _compact(self, leaving: Job) -> None:
        self.queue_order = deque(
            job for job in self.queue_order if job.state == READY and job is not leaving
        )
        self.returned = [
            entry for entry in self.returned if entry[2].state == READY and entry[2] is not leaving
        ]
        heapq.heapify(self.returned)

    def first(self, count: int) -> list[Job]:
        """Its first live jobs, at most `count`, without taking them."""
        self._trim()
        return list(islice(self.in_order(), count))

    def in_order(self) -> Iterator[Job]:
        """Its live jobs, looking no further than the reader goes."""
        standing = (job for job in self.queue_order if job.state == READY)
        if not self.returned:
            return standing
        returned = (job for _, _, job in _in_heap_order(self.returned) if job.state == READY)
        return heapq.merge(standing, returned, key=_number)


def _number(job: Job) -> int:
    return job.number


def _in_heap_order(heap: list[tuple[int, int, Job]]) -> Iterator[tuple[int, int, Job]]:
    """The entries of a heap in order, without taking them: O(k log k) for the first k."""
    frontier = [(heap[0], 0)]
    while frontier:
        entry, place = heapq.heappop(frontier)
        yield entry
        for child in (2 * place + 1, 2 * place + 2):
            if child < len(heap):
                heapq.heappush(frontier, (heap[child], child))


class KindLanes:
    """The lanes of one (queue, kind), one a priority.

    Invariant: bit p of `bitmap` is set exactly when lane p has a live job.
    """

    __slots__ = ("bitmap", "fed", "interested", "kind", "lanes", "number", "queue")

    def __init__(self, queue: str, kind: str) -> None:
        self.queue = queue
        self.kind = kind
        self.number = 0
        """Its place in the engine's list of lanes."""
        self.lanes: dict[int, Lane] = {}
        self.bitmap = 0
        self.interested: list[int] = []
        """Numbers of the sessions that handle this kind in this queue."""
        self.fed = False
        """A job came since the last dispatch, and some session is interested."""

    def add(self, job: Job) -> None:
        lane = self.lanes.get(job.priority)
        if lane is None:
            lane = self.lanes[job.priority] = Lane(job.priority)
        lane.add(job)
        self.bitmap |= 1 << job.priority

    def leave(self, job: Job) -> None:
        lane = self.lanes[job.priority]
        lane.leave(job)
        if lane.count == 0:
            self.bitmap &= ~(1 << job.priority)
            del self.lanes[job.priority]

    def count(self) -> int:
        return sum(lane.count for lane in self.lanes.values())

    def top(self) -> Lane | None:
        """The lane of the highest priority that has a job."""
        return self.lanes[self.bitmap.bit_length() - 1] if self.bitmap else None


def first_jobs(served: list[KindLanes], count: int) -> list[Job]:
    """The jobs that come first among these kinds of one queue, at most `count`.

    Highest priority first, then lowest number. Complexity: O(count × kinds served).
    """
    found: list[Job] = []
    mask = -1
    while len(found) < count:
        busy = [lanes for lanes in served if lanes.bitmap & mask]
        if not busy:
            break
        priority = max((lanes.bitmap & mask).bit_length() for lanes in busy) - 1
        level = [lanes.lanes[priority] for lanes in busy if lanes.bitmap >> priority & 1]
        wanted = count - len(found)
        found += level[0].first(wanted) if len(level) == 1 else _merge(level, wanted)
        mask = (1 << priority) - 1
    return found


def _merge(level: list[Lane], count: int) -> list[Job]:
    """The first `count` jobs over several lanes of equal priority."""
    lanes = [lane.in_order() for lane in level]
    return list(islice(heapq.merge(*lanes, key=_number), count))
