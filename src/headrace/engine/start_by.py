"""Jobs that are cancelled unless they have started by a certain time.

Only a job that has never started is bound: not one that waits for a retry, and not one
that snoozes. While it is leased its holder may start it any moment, so it is watched
again when it comes back.
"""

from __future__ import annotations

import heapq

from headrace.engine.job import LEASED, Job, cold_of
from headrace.engine.table import Table

_COMPACT_MIN = 1_024


class StartBys:
    """One heap of (time, job id); entries of jobs that are bound no more are passed over.

    Invariant: every waiting job that is bound has an entry.
    """

    __slots__ = ("_compact_at", "_heap", "_jobs")

    def __init__(self, jobs: Table[Job]) -> None:
        self._jobs = jobs
        self._heap: list[tuple[int, bytes]] = []
        self._compact_at = _COMPACT_MIN

    def watch(self, job: Job) -> None:
        """The job waits from here on; one without a start-by is passed over."""
        at_ms = start_by_ms(job)
        if at_ms:
            heapq.heappush(self._heap, (at_ms, job.job_id))
            if len(self._heap) > self._compact_at:
                self._compact()

    def _compact(self) -> None:
        """Jobs end long before their start-by: their entries must not pile up."""
        self._heap = [entry for entry in self._heap if self._binds(*entry)]
        heapq.heapify(self._heap)
        self._compact_at = 2 * len(self._heap) + _COMPACT_MIN

    def _binds(self, at_ms: int, job_id: bytes) -> bool:
        job = self._jobs.get(job_id)
        return job is not None and job.state != LEASED and start_by_ms(job) == at_ms

    def next_at_ms(self) -> int | None:
        """When the first waiting job is too late."""
        heap = self._heap
        while heap:
            if self._binds(*heap[0]):
                return heap[0][0]
            heapq.heappop(heap)
        return None

    def take_late(self, now_ms: int, count_max: int) -> list[bytes]:
        """The first jobs that are too late, each once; the caller cancels them."""
        late: dict[bytes, None] = {}
        while len(late) < count_max:
            at_ms = self.next_at_ms()
            if at_ms is None or at_ms > now_ms:
                break
            late[heapq.heappop(self._heap)[1]] = None
        return list(late)


def start_by_ms(job: Job) -> int:
    """By when it must have started; 0 when nothing binds it, or nothing any more."""
    if job.cold is None or job.attempt:
        return 0
    cold = cold_of(job)
    return 0 if cold.extra is None or cold.snooze_count else cold.extra.start_by_ms
