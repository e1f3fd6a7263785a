"""Handlers: a job is done when its code has run, not when somebody says so."""

from __future__ import annotations

from headrace.model.records import JobsSucceeded
from headrace.sim.checkers.base import Breaches, Checker, Life
from headrace.sim.history import HandlerBegan, HandlerEnded, Recorded

Lease = tuple[bytes, int]


class DoneIsDone(Checker):
    """What a worker's handler runs under a lease succeeds after that handler has ended."""

    invariants = ("I1",)
    clauses = (2,)
    promise = (
        "No job succeeds before its handler has returned: a crash of its worker runs it again."
    )
    needs_log = False

    def breaches(self, life: Life) -> Breaches:
        running: dict[Lease, HandlerBegan] = {}
        succeeded: dict[Lease, Recorded] = {}
        for event in life.history.events:
            if isinstance(event, HandlerBegan):
                lease = event.job_id, event.token
                running[lease] = event
                if lease in succeeded:
                    message = f"its handler begins after lease {event.token} has succeeded"
                    yield self.violation(message, succeeded[lease], event, job_id=event.job_id)
            elif isinstance(event, HandlerEnded):
                running.pop((event.job_id, event.token), None)
            elif isinstance(event, Recorded) and isinstance(event.record, JobsSucceeded):
                for job_id, token, _ in event.record.results:
                    succeeded[job_id, token] = event
                    if (job_id, token) in running:
                        message = f"succeeded under lease {token} while its handler runs"
                        began = running[job_id, token]
                        yield self.violation(message, began, event, job_id=job_id)
