"""CPU-bound handlers in child processes that are spawned, used again, and replaced in time.

A child runs one job at a time. It is asked to end (SIGTERM), and killed KILL_AFTER_MS
later, when its job is stopped; it is replaced when it has run `max_jobs` jobs or holds
more than `max_rss`.

Must never send an object: kind and bytes go down, bytes come up.
"""

from __future__ import annotations

import asyncio
import sys

from headrace.client.context import JobFacts, Reporter
from headrace.client.errors import ChildFailed, ChildLost, NotFound, Snoozed
from headrace.client.executors.frames import (
    HEAD_BYTES,
    FromChild,
    Load,
    Raised,
    Ready,
    Returned,
    Run,
    Said,
    SnoozedFor,
    body_bytes,
    decode_from_child,
    frame,
)
from headrace.client.job_type import ChildLimits
from headrace.model.env import ChildProcess, Env
from headrace.model.limits import KILL_AFTER_MS

_MODULE = "headrace.client.executors.child"


class HandlerProcesses:
    """The children of one worker. All methods belong to its loop."""

    def __init__(self, env: Env, target: str, processes_max: int = 0) -> None:
        """`processes_max` 0: one for each processor."""
        self._env = env
        self._free = asyncio.Semaphore(processes_max or env.host.processor_count())
        self._target = target
        """`module:app`, by which a child finds the functions."""
        self._idle: list[_Child] = []
        self._all: dict[_Child, None] = {}

    async def run(
        self, facts: JobFacts, payload: bytes, reporter: Reporter, limits: ChildLimits
    ) -> bytes | None:
        """The result, as the queue keeps it.

        Raises: `ChildFailed` with the handler's failure; `Snoozed`; `ChildLost` when the
        child ended under the job; `NotFound` when it cannot load the application.
        Cancellation: the child has ended when `CancelledError` is raised.
        """
        async with self._free:
            return await self._run(facts, payload, reporter, limits)

    async def _run(
        self, facts: JobFacts, payload: bytes, reporter: Reporter, limits: ChildLimits
    ) -> bytes | None:
        child = await self._idle_or_new()
        try:
            answer = await child.run(Run(facts, payload), facts, reporter)
        except BaseException:
            await self._end(child)
            raise
        if child.is_worn(limits):
            await self._end(child)
        else:
            self._idle.append(child)
        return _result_of(answer)

    async def _idle_or_new(self) -> _Child:
        """One that lives: the end of an idle one must not cost the next job an attempt."""
        while self._idle:
            child = self._idle.pop()
            if child.is_alive:
                return child
            await self._end(child)
        return await self._start()

    async def close(self) -> None:
        """All children have ended."""
        self._idle.clear()
        await asyncio.gather(*(self._end(child) for child in list(self._all)))

    async def _start(self) -> _Child:
        if not self._target:
            raise NotFound(
                'executor="process" needs to know where the application is.',
                hint="Start the worker as `headrace worker module:app`.",
            )
        process = await self._env.processes.spawn([sys.executable, "-m", _MODULE], piped=True)
        child = _Child(process)
        self._all[child] = None
        try:
            await child.load(self._target)
        except BaseException:
            await self._end(child)
            raise
        return child

    async def _end(self, child: _Child) -> None:
        self._all.pop(child, None)
        await asyncio.shield(child.end())


class _Child:
    def __init__(self, process: ChildProcess) -> None:
        self._process = process
        self._ended = asyncio.get_running_loop().create_task(process.wait())
        self._jobs = 0
        self._rss_bytes = 0

    @property
    def is_alive(self) -> bool:
        """As far as this loop has heard."""
        return not self._ended.done()

    async def load(self, target: str) -> None:
        self._process.write(frame(Load(target)))
        answer = await self._receive()
        if isinstance(answer, Ready) and answer.problem:
            raise NotFound(f"A child process could not load the application: {answer.problem}")

    async def run(self, run: Run, facts: JobFacts, reporter: Reporter) -> FromChild:
        self._jobs += 1
        self._process.write(frame(run))
        while isinstance(answer := await self._receive(), Said):
            if answer.progress is not None:
                reporter.progress(facts, answer.progress)
            if answer.line is not None:
                reporter.log_line(facts, answer.line)
        if isinstance(answer, Returned | Raised | SnoozedFor):
            self._rss_bytes = answer.rss_bytes
        return answer

    def is_worn(self, limits: ChildLimits) -> bool:
        return self._jobs >= limits.max_jobs or self._rss_bytes > limits.max_rss_bytes

    async def end(self) -> None:
        """The process is gone."""
        self._process.terminate()
        await asyncio.wait([self._ended], timeout=KILL_AFTER_MS / 1_000)
        if self.is_alive:
            self._process.kill()
            await asyncio.wait([self._ended])

    async def _receive(self) -> FromChild:
        size = body_bytes(await self._process.read(HEAD_BYTES))
        body = await self._process.read(size) if size else b""
        if not body or len(body) < size:
            code = await asyncio.shield(self._ended)
            raise ChildLost(f"The process that ran this attempt ended: {_ending(code)}.")
        return decode_from_child(body)


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _result_of(answer: FromChild) -> bytes | None:
    if isinstance(answer, Returned):
        return answer.result
    if isinstance(answer, SnoozedFor):
        raise Snoozed(answer.delay_ms)
    if isinstance(answer, Raised):
        raise ChildFailed(answer.error, retryable=answer.retryable, delay_ms=answer.delay_ms)
    raise ChildLost("The child process gave no answer that fits.")
