"""The leases of one worker: what it was pushed and has not been told to forget.

A job stays here until its ack, nack or release was answered, so that a resume can name it
and count and digest agree with the server's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from headrace.client.context import JobContext, JobFacts
from headrace.model.commands import HeldLease
from headrace.model.replies import PushedGroup, PushedJob

if TYPE_CHECKING:
    from headrace.client.running import Handler

RESERVED = 0
"""Here, and not announced as started: may go back uncharged."""
STARTED = 1
"""The server was told; its handler is about to run, runs, or has run."""
SETTLED = 2
"""Ack, nack or release is on its way: nothing more is said of it."""
FORGOTTEN = 3
"""The lease is not ours any more."""


class HeldJob:
    """One lease. Only the worker's loop touches it."""

    __slots__ = ("context", "group", "handler", "job_id", "pushed", "state", "token")

    def __init__(self, pushed: PushedJob, group: PushedGroup, handler: Handler) -> None:
        self.job_id = pushed.job_id
        self.token = group.token
        self.pushed = pushed
        self.group = group
        self.handler = handler
        self.state = RESERVED
        self.context: JobContext | None = None
        """While its handler runs, if it looks at one."""

    @property
    def is_last_attempt(self) -> bool:
        return self.pushed.attempt >= self.group.attempt_max

    def facts(self) -> JobFacts:
        pushed, group = self.pushed, self.group
        return JobFacts(
            self.job_id,
            self.token,
            group.kind,
            group.queue,
            pushed.attempt,
            group.attempt_max,
            group.timeout_ms,
            pushed.priority,
            pushed.tags,
            pushed.headers,
            pushed.snooze_count,
        )


class Holdings:
    """All of a worker's leases, by job id, with the digest that heartbeats carry."""

    def __init__(self) -> None:
        self._jobs: dict[bytes, HeldJob] = {}
        self.digest = 0
        """XOR of (first 8 bytes of the id, big-endian) XOR token, over the leases held."""

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[HeldJob]:
        return iter(list(self._jobs.values()))

    def add(self, held: HeldJob) -> None:
        """An older lease of the same job, if there is one, is forgotten."""
        older = self._jobs.get(held.job_id)
        if older is not None:
            self.forget(older)
        self._jobs[held.job_id] = held
        self.digest ^= int.from_bytes(held.job_id[:8], "big") ^ held.token

    def of(self, job_id: bytes) -> HeldJob | None:
        """The lease of this job, whatever its token."""
        return self._jobs.get(job_id)

    def get(self, job_id: bytes, token: int) -> HeldJob | None:
        held = self._jobs.get(job_id)
        return held if held is not None and held.token == token else None

    def forget(self, held: HeldJob) -> None:
        """Harmless when it was forgotten before."""
        if self._jobs.get(held.job_id) is held:
            del self._jobs[held.job_id]
            self.digest ^= int.from_bytes(held.job_id[:8], "big") ^ held.token
        held.state = FORGOTTEN

    def leases(self) -> list[HeldLease]:
        """As a resume lists them."""
        return [
            HeldLease(held.job_id, held.token, held.state != RESERVED)
            for held in self._jobs.values()
        ]
