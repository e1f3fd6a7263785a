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

    __slots__ = ("count", "priority", "queue_order", "returned")

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.queue_order: deque[Job] = deque()
        self.returned: list[tuple[int, Job]] = []
        """Released jobs keep their number; a small heap beside the deque."""
        self.count = 0

    def add(self, job: Job) -> None:
        order = self.queue_order
        if order and job.number < order[-1].number:
            heapq.heappush(self.returned, (job.number, job))
        else:
            order.append(job)
        self.count += 1

    def leave(self, job: Job) -> None:
        """`job`, still READY, is about to be claimed, moved or ended.

        Cheap at the front, lazy elsewhere. A claim takes from the front only, so a
        released job never finds an old entry of itself.
        """
        self.count -= 1
        order = self.queue_order
        while order and order[0].state != READY:
            order.popleft()
        if order and order[0] is job:
            order.popleft()
        elif self.returned and self.returned[0][1] is job:
            heapq.heappop(self.returned)
        if len(order) + len(self.returned) > 2 * self.count + _COMPACT_MIN:
            self._compact(job)

    def _compact(self, leaving: Job) -> None:
        self.queue_order = deque(
            job for job in self.queue_order if job.state == READY and job is not leaving
        )
        self.returned = [
            entry for entry in self.returned if entry[1].state == READY and entry[1] is not leaving
        ]
        heapq.heapify(self.returned)

    def head(self) -> Job | None:
        """Its first live job, without taking it."""
        order, returned = self.queue_order, self.returned
        while order and order[0].state != READY:
            order.popleft()
        while returned and returned[0][1].state != READY:
            heapq.heappop(returned)
        if returned and (not order or returned[0][0] < order[0].number):
            return returned[0][1]
        return order[0] if order else None

    def first(self, count: int) -> list[Job]:
        """Its first live jobs, at most `count`, without taking them."""
        if not self.returned:
            found: list[Job] = []
            for job in self.queue_order:
                if job.state == READY:
                    found.append(job)
                    if len(found) == count:
                        break
            return found
        live = list(islice((job for job in self.queue_order if job.state == READY), count))
        live += [job for _, job in self.returned if job.state == READY]
        live.sort(key=_number)
        return live[:count]

    def in_order(self, count: int) -> Iterator[Job]:
        """Its first live jobs, looking no further than the reader goes."""
        if self.returned:
            return iter(self.first(count))
        return (job for job in self.queue_order if job.state == READY)


def _number(job: Job) -> int:
    return job.number


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
    lanes = [lane.in_order(count) for lane in level]
    return list(islice(heapq.merge(*lanes, key=_number), count))
