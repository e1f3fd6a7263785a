"""Enqueues of one pass of the loop as one frame, and its answer to each of those who wait.

Jobs of a frame share their specs by identity: whoever enqueues the same kind again and
again passes the same `JobSpec`, and no spec is ever hashed or compared.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import msgspec

from headrace.model import commands, limits, replies
from headrace.model.errors import HeadraceError, Internal, PayloadTooLarge, codes
from headrace.model.ids import id_to_text
from headrace.model.job import JobSpec

_CODES = codes()
_JOB_OVERHEAD_BYTES = 128
"""Of a job in a frame beside its payload, on the large side; what it carries extra is added."""


class Carrier(Protocol):
    """What a client needs of a link."""

    def call(self, command: commands.Command) -> asyncio.Future[Any]: ...

    def close(self) -> Any: ...


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """Answer to one enqueue."""

    job_id: bytes
    created: bool
    state: int
    """Of the job that was there already; of a new one not said (0)."""
    durability: int
    index: int


Waiter = asyncio.Future[Accepted] | None
Outcome = Accepted | HeadraceError


class SentJobs:
    """A frame on its way, with what its answer is to be read by."""

    __slots__ = ("_given", "_waiters", "command")

    def __init__(self, command: commands.Enqueue, waiters: list[Waiter], given: set[int]) -> None:
        self.command = command
        self._waiters = waiters
        self._given = given
        """Positions whose id the caller chose: only there can it be somebody else's job."""

    def answer(self, answer: asyncio.Future[Any]) -> None:
        """Each waiter has its own answer. A callback of the call's future."""
        jobs = self.command.jobs
        if answer.cancelled():
            outcomes: list[Outcome] = [Internal("The call was cancelled.") for _ in jobs]
        elif (error := answer.exception()) is not None:
            outcomes = [own_error(error, new_job) for new_job in jobs]
        else:
            outcomes = self.outcomes(answer.result())
        for waiter, outcome in zip(self._waiters, outcomes, strict=True):
            if waiter is None or waiter.done():
                continue
            if isinstance(outcome, HeadraceError):
                waiter.set_exception(outcome)
            else:
                waiter.set_result(outcome)

    def outcomes(self, reply: replies.Enqueued) -> list[Outcome]:
        """What became of each job, in the order of the frame."""
        jobs, index, durability = self.command.jobs, reply.index, reply.durability
        outcomes: list[Outcome] = [
            Accepted(new_job.job_id, True, 0, durability, index) for new_job in jobs
        ]
        for found in reply.existing or ():
            place = found.position
            # An id made here is known to the server only from this very call, repeated.
            created = found.job_id == jobs[place].job_id and place not in self._given
            outcomes[place] = Accepted(found.job_id, created, found.state, durability, index)
        for problem in reply.problems or ():
            job_id = jobs[problem.position].job_id
            outcomes[problem.position] = problem_error(problem, job_id=job_id)
        return outcomes


class EnqueueBatch:
    """Jobs of one frame, with who waits for each. Empty again once it is taken."""

    __slots__ = ("_given", "_places", "_specs", "jobs", "size_bytes", "waiters")

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._places: dict[int, int] = {}
        self._specs: list[JobSpec] = []
        self.jobs: list[commands.NewJob] = []
        self.waiters: list[Waiter] = []
        self._given: set[int] = set()
        self.size_bytes = 0

    def has_room(self, size_bytes: int) -> bool:
        return (
            len(self.jobs) < limits.JOBS_PER_CALL_MAX
            and self.size_bytes + size_bytes <= limits.CALL_BYTES_MAX
        )

    def add(
        self,
        spec: JobSpec,
        new_job: commands.NewJob,
        waiter: Waiter,
        size_bytes: int,
        *,
        id_given: bool,
    ) -> None:
        place = self._places.get(id(spec))
        if place is None:
            place = self._places[id(spec)] = len(self._specs)
            self._specs.append(spec)
        new_job.spec = place
        if id_given:
            self._given.add(len(self.jobs))
        self.jobs.append(new_job)
        self.waiters.append(waiter)
        self.size_bytes += size_bytes

    def take(self, *, atomic: bool = False) -> SentJobs:
        command = commands.Enqueue(self._specs, self.jobs, atomic)
        sent = SentJobs(command, self.waiters, self._given)
        self._clear()
        return sent

    def flush(self, link: Carrier) -> None:
        """What collected is on its way, and each waiter gets its own answer."""
        if self.jobs:
            sent = self.take()
            link.call(sent.command).add_done_callback(sent.answer)


def problem_error(problem: replies.Problem, **details: Any) -> HeadraceError:
    """The refusal of one item as the error that stands for its code."""
    return _CODES.get(problem.code, Internal)(problem.message, hint=problem.hint, **details)


def own_error(error: BaseException, new_job: commands.NewJob) -> HeadraceError:
    """A refusal of a whole frame, for one of its jobs: an exception raised in many places
    would collect the tracebacks of all of them."""
    if not isinstance(error, HeadraceError):
        return Internal(str(error), job_id=new_job.job_id)
    details = {**error.details, "job_id": new_job.job_id}
    own = type(error)(
        error.message, hint=error.hint, retry_after_ms=error.retry_after_ms, **details
    )
    own.index = error.index
    return own


def job_size_bytes(spec: JobSpec, new_job: commands.NewJob) -> int:
    """Its share of a frame. Raises: `PayloadTooLarge` naming the kind."""
    payload_bytes = len(new_job.payload)
    if payload_bytes > limits.PAYLOAD_BYTES_MAX:
        raise PayloadTooLarge(
            f"The payload of a {spec.kind!r} job has {payload_bytes:,} bytes; "
            f"at most {limits.PAYLOAD_BYTES_MAX:,} fit, and queues may allow less.",
            hint="Keep big data elsewhere and enqueue a reference to it.",
            job_id=id_to_text(new_job.job_id) if new_job.job_id else "",
        )
    if new_job.extra is None:
        return payload_bytes + _JOB_OVERHEAD_BYTES
    return payload_bytes + _JOB_OVERHEAD_BYTES + len(msgspec.msgpack.encode(new_job.extra))
