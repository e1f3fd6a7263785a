"""Client: every command of a server as one method; payloads and results are bytes.

Thin: a method makes the command, the `Link` carries it (and repeats it after a lost
connection, at most 60 s, then `OutcomeUnknown`). Methods raise what the server refused
with. All of them belong to one event loop.

Enqueues of one pass of the loop leave as one frame, and are answered one by one. One
future a caller, no task.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from headrace.client.enqueueing import (
    Accepted,
    Carrier,
    EnqueueBatch,
    SentJobs,
    job_size_bytes,
    problem_error,
)
from headrace.client.job_ids import JobIdMaker
from headrace.client.watching import OnFinished, Watching
from headrace.model import commands, limits, replies
from headrace.model.env import Env
from headrace.model.errors import (
    BatchTooLarge,
    HeadraceError,
    Internal,
    Unavailable,
    Unsupported,
)
from headrace.model.ids import slot_of_queue
from headrace.model.job import JobExtra, JobSpec, State
from headrace.model.queue import QueueSettings

T = TypeVar("T", bound=replies.Reply)
NewJobs = Iterable[tuple[JobSpec, int, commands.NewJob]]
"""(spec, slot of its queue, job) each."""


class Client:
    """A connection to a server, shared by all coroutines of one loop: `await app.client()`."""

    def __init__(self, link: Carrier, env: Env, watching: Watching | None = None) -> None:
        """`watching`: whose events the link was made with; without it nothing can be watched."""
        self._link = link
        self._watching = watching
        if watching is not None:
            watching.attach(link)
        self._ids = JobIdMaker(env)
        self._loop = asyncio.get_running_loop()
        self._batch = EnqueueBatch()

    def call(self, command: commands.Command) -> asyncio.Future[Any]:
        """Any command; the answer is its reply. Raises (from the future): `HeadraceError`."""
        return self._link.call(command)

    async def close(self) -> None:
        """What was called is sent first; what was not answered ends as `OutcomeUnknown`."""
        self._batch.flush(self._link)
        if self._watching is not None:
            self._watching.close()
        closing = self._link.close()
        if closing is not None:
            await closing

    # --- producing

    async def enqueue(
        self,
        queue: str,
        kind: str,
        payload: bytes,
        *,
        media_type: str = "application/json",
        priority: int = limits.PRIORITY_DEFAULT,
        delay_ms: int = 0,
        run_at_ms: int = 0,
        extra: JobExtra | None = None,
        job_id: bytes = b"",
    ) -> Accepted:
        """The job is durable. Cancellation: it may or may not have been enqueued."""
        new_job = commands.NewJob(job_id, 0, payload, priority, run_at_ms, delay_ms, extra)
        spec = JobSpec(queue, kind, media_type)
        return await self.submit(spec, slot_of_queue(queue), new_job)

    def submit(
        self, spec: JobSpec, slot: int, new_job: commands.NewJob
    ) -> asyncio.Future[Accepted]:
        """As `enqueue`, of a job that is made already; an empty id is filled in.

        Raises: `PayloadTooLarge` at once; everything else from the future.
        """
        size_bytes = job_size_bytes(spec, new_job)
        id_given = bool(new_job.job_id)
        if not id_given:
            new_job.job_id = self._ids.make(slot)
        batch = self._batch
        if not batch.has_room(size_bytes):
            batch.flush(self._link)
        if not batch.jobs:
            self._loop.call_soon(batch.flush, self._link)
        future: asyncio.Future[Accepted] = self._loop.create_future()
        batch.add(spec, new_job, future, size_bytes, id_given=id_given)
        return future

    async def enqueue_many(self, jobs: NewJobs, *, atomic: bool = False) -> list[Accepted]:
        """All are durable; answers in the order of `jobs`, which is read as it is sent.

        Without `atomic` they leave in chunks, each all or none; when one is refused, the
        error's `details["enqueued"]` says how many of the others were taken. With
        `atomic` they are one chunk, and too many are refused.
        Raises: `BatchTooLarge`; what a chunk was refused with.
        Cancellation: chunks under way may or may not be enqueued.
        """
        chunks: Iterable[SentJobs]
        if atomic:
            chunks = list(self._chunks(jobs, limits.JOBS_PER_CALL_MAX))
            if len(chunks) > 1:
                raise BatchTooLarge(
                    f"An atomic call takes {limits.JOBS_PER_CALL_MAX:,} jobs or 8 MiB at most.",
                    hint="Without atomic=True it is split into chunks, each of them atomic.",
                )
        else:
            chunks = self._chunks(jobs, limits.BULK_JOBS)
        return await self._send_chunks(chunks)

    async def flush(self) -> replies.Done:
        """Everything that this server accepted before is durable."""
        return await self._ask(replies.Done, commands.Flush())

    # --- holding leases without a session

    async def claim(
        self,
        queues: Sequence[str],
        kinds: Sequence[str],
        *,
        jobs_max: int = 1,
        lease_ms: int = limits.LEASE_MS_DEFAULT,
        wait_ms: int = 0,
    ) -> list[replies.PushedGroup]:
        """Up to `jobs_max` ready jobs, each under a lease of `lease_ms`; waits for a first one."""
        command = commands.Claim(tuple(queues), tuple(kinds), jobs_max, lease_ms, wait_ms)
        reply: replies.Claimed = await self.call(command)
        return reply.groups

    async def ack(self, job_id: bytes, token: int, result: bytes | None = None) -> None:
        """The job has succeeded. Raises: `StaleLease`."""
        _raise_problem(await self.call(commands.Ack([(job_id, token, result)])))

    async def nack(self, failure: commands.Failure) -> None:
        """The attempt has failed. Raises: `StaleLease`."""
        _raise_problem(await self.call(commands.Nack([failure])))

    async def release(
        self, job_id: bytes, token: int, *, delay_ms: int = 0, started: bool = False
    ) -> None:
        """The job waits again, uncharged. Raises: `StaleLease`."""
        given = commands.Return(job_id, token, delay_ms, started)
        _raise_problem(await self.call(commands.Release([given])))

    async def extend(self, leases: list[tuple[bytes, int]], lease_ms: int) -> None:
        """These leases end `lease_ms` from now. Raises: `StaleLease`."""
        _raise_problem(await self.call(commands.Extend(leases, lease_ms)))

    # --- changing jobs

    async def cancel(self, job_id: bytes, reason: str = "") -> replies.Changed:
        return await self._ask(replies.Changed, commands.Cancel(job_id, reason))

    async def reschedule(
        self, job_id: bytes, *, run_at_ms: int = 0, delay_ms: int = 0
    ) -> replies.Changed:
        """A waiting job is due then; both 0: now."""
        return await self._ask(replies.Changed, commands.Reschedule(job_id, run_at_ms, delay_ms))

    async def change_priority(self, job_id: bytes, priority: int) -> replies.Changed:
        return await self._ask(replies.Changed, commands.ChangePriority(job_id, priority))

    async def revive(self, job_id: bytes, *, delay_ms: int = 0) -> replies.Changed:
        return await self._ask(replies.Changed, commands.Revive(job_id, delay_ms))

    async def delete(self, job_id: bytes) -> replies.Reply:
        return await self._ask(replies.Reply, commands.Delete(job_id))

    # --- queues

    async def purge(self, queue: str, states: Iterable[State]) -> int:
        """All jobs of these states are removed; how many."""
        command = commands.Purge(queue, tuple(int(state) for state in states))
        removed, more = 0, True
        while more:
            reply: replies.Purged = await self.call(command)
            removed, more = removed + reply.count, reply.more
        return removed

    async def configure_queue(self, queue: str, settings: QueueSettings) -> replies.Reply:
        return await self._ask(replies.Reply, commands.ConfigureQueue(queue, settings))

    async def pause_queue(self, queue: str) -> replies.Reply:
        return await self._ask(replies.Reply, commands.PauseQueue(queue))

    async def resume_queue(self, queue: str) -> replies.Reply:
        return await self._ask(replies.Reply, commands.ResumeQueue(queue))

    # --- reading

    async def get_job(self, job_id: bytes, *, with_payload: bool = True) -> replies.JobView:
        return _job_of(await self.call(commands.GetJob(job_id, with_payload)))

    async def wait_job(self, job_id: bytes, wait_ms: int) -> replies.JobView:
        """The job once it is final, or as it is after `wait_ms`."""
        return _job_of(await self.call(commands.WaitJob(job_id, wait_ms)))

    async def watch(self, job_ids: Iterable[bytes], on_finished: OnFinished) -> None:
        """`on_finished(job_id, view)` is called once for each of these jobs, when it is final.

        At once for those that are final already; views have the result and no payload. In
        place of a view it gets `UnknownJob`, or why nothing more will be heard. Lost
        connections are none of its concern: what is open is watched again.
        Raises: `LimitReached` (65,536 at a time), and what else a call is refused with.
        Cancellation: it hears of none of them.
        """
        await self._watches().watch(job_ids, on_finished)

    def unwatch(self, job_ids: Iterable[bytes], on_finished: OnFinished) -> None:
        """It hears nothing of these any more; the server still counts them until they end."""
        self._watches().forget(job_ids, on_finished)

    async def list_jobs(self, query: commands.ListJobs) -> replies.JobPage:
        return await self._ask(replies.JobPage, query)

    async def explain(self, job_id: bytes) -> replies.Explanation:
        return await self._ask(replies.Explanation, commands.ExplainJob(job_id))

    async def get_queue(self, queue: str) -> replies.QueueView:
        reply: replies.QueueReply = await self.call(commands.GetQueue(queue))
        if reply.queue is None:
            raise Internal(f"The server said nothing of queue {queue!r}.")
        return reply.queue

    async def list_queues(self) -> list[replies.QueueView]:
        found: list[replies.QueueView] = []
        cursor, more = b"", True
        while more:
            page: replies.QueuePage = await self.call(commands.ListQueues(cursor=cursor))
            found += page.queues
            cursor, more = page.cursor, bool(page.cursor)
        return found

    async def list_sessions(self) -> list[replies.SessionView]:
        found: list[replies.SessionView] = []
        cursor, more = b"", True
        while more:
            page: replies.SessionPage = await self.call(commands.ListSessions(cursor=cursor))
            found += page.sessions
            cursor, more = page.cursor, bool(page.cursor)
        return found

    async def stats(self) -> replies.StatsReply:
        return await self._ask(replies.StatsReply, commands.GetStats())

    # --- inside

    def _watches(self) -> Watching:
        if self._watching is None:
            raise Unsupported(
                "This client was made without what watches jobs.",
                hint="Use the one of `await app.client()`.",
            )
        return self._watching

    async def _ask(self, reply_type: type[T], command: commands.Command) -> T:
        reply = await self.call(command)
        if not isinstance(reply, reply_type):
            raise Internal(f"The server answered {type(command).__name__} with another reply.")
        return reply

    def _chunks(self, jobs: NewJobs, jobs_max: int) -> Iterator[SentJobs]:
        batch = EnqueueBatch()
        for spec, slot, new_job in jobs:
            size_bytes = job_size_bytes(spec, new_job)
            id_given = bool(new_job.job_id)
            if not id_given:
                new_job.job_id = self._ids.make(slot)
            if len(batch.jobs) >= jobs_max or not batch.has_room(size_bytes):
                yield batch.take(atomic=True)
            batch.add(spec, new_job, None, size_bytes, id_given=id_given)
        if batch.jobs:
            yield batch.take(atomic=True)

    async def _send_chunks(self, chunks: Iterable[SentJobs]) -> list[Accepted]:
        """A few in flight at a time; after a refusal no more are sent."""
        accepted: list[Accepted] = []
        in_flight: deque[tuple[SentJobs, asyncio.Future[Any]]] = deque()
        try:
            for chunk in chunks:
                in_flight.append((chunk, self.call(chunk.command)))
                if len(in_flight) == limits.BULK_CALLS_MAX:
                    accepted += await self._answered(*in_flight.popleft())
            while in_flight:
                accepted += await self._answered(*in_flight.popleft())
        except HeadraceError as error:
            error.details["enqueued"] = len(accepted) + await _count_taken(in_flight)
            raise
        return accepted

    async def _answered(self, chunk: SentJobs, answer: asyncio.Future[Any]) -> list[Accepted]:
        """Sent again while the server is only busy, as long as a call may be repeated."""
        deadline_s = self._loop.time() + limits.REPEAT_MS / 1_000
        while True:
            try:
                return _all_accepted(chunk, await answer)
            except Unavailable as error:
                wait_s = max(error.retry_after_ms, limits.REFUSED_RETRY_MS) / 1_000
                if self._loop.time() + wait_s > deadline_s:
                    raise
                await asyncio.sleep(wait_s)
                answer = self.call(chunk.command)


def _all_accepted(chunk: SentJobs, reply: replies.Enqueued) -> list[Accepted]:
    accepted = []
    for outcome in chunk.outcomes(reply):
        if isinstance(outcome, HeadraceError):
            raise outcome
        accepted.append(outcome)
    return accepted


async def _count_taken(
    in_flight: Iterable[tuple[SentJobs, asyncio.Future[Any]]],
) -> int:
    """Jobs of the calls still under way that the server took after all."""
    taken = 0
    for chunk, answer in in_flight:
        try:
            await answer
        except HeadraceError:
            continue
        taken += len(chunk.command.jobs)
    return taken


def _raise_problem(reply: replies.Settled) -> None:
    for problem in reply.problems or ():
        raise problem_error(problem)


def _job_of(reply: replies.JobReply) -> replies.JobView:
    if reply.job is None:
        raise Internal("The server answered without a job.")
    return reply.job
