"""TestApp: an application's jobs in memory, run when the test says so, at the time it says.

    async def test_welcome_is_sent():
        async with TestApp(app) as test:
            job = await send_welcome.enqueue(42)
            await test.run_until_idle()
            assert await job.result() == "sent default to 42"

Inside the block the application talks to the real engine in this process instead of its
server or directory. Time stands still but for `advance`, so a retry in an hour takes no
hour. Handlers, hooks, dependencies and executors run as they do on a worker.

`TestApp(app, eager=True)` needs no `run_until_idle`: an enqueue returns when its job, and
what that enqueued, has run; retries and delayed jobs still wait for `advance`.

Not simulated: durability, worker crashes, and the loop's own time (a handler's
`asyncio.sleep` and a job's `timeout` take as long as they say).
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

from headrace.client.app import App
from headrace.client.connections import Connections
from headrace.client.durations import Duration, duration_ms
from headrace.client.worker import Worker, WorkerOptions
from headrace.model.commands import ListJobs
from headrace.model.job import FINAL_STATES, State
from headrace.model.replies import JobView
from headrace.testing.memory_target import MemoryTarget
from headrace.testing.virtual_clock import VirtualClock, env_at

_LOOK_AGAIN_S = 0.005
_OPTIONS = WorkerOptions(drain_ms=0)


class TestApp:
    """Use as `with` or `async with`; the application is as it was afterwards."""

    __test__ = False
    """Not a test class, whatever its name says to pytest."""

    def __init__(
        self,
        app: App,
        *,
        now: datetime | None = None,
        seed: int = 0,
        target: str = "",
        eager: bool = False,
    ) -> None:
        """An application in memory.

        Args:
            now: where the virtual clock begins.
            seed: of the jitter of retries.
            target: `module:app`, needed by jobs with `executor="process"` only.
            eager: jobs run as they are enqueued.
        """
        self.app = app
        self._module_target = target
        self.clock = VirtualClock(now) if now is not None else VirtualClock()
        self._target = MemoryTarget(self.clock, seed)
        self._is_running = False
        if eager:
            self._target.after_enqueue = self._run_eagerly
        self._replaced: tuple[Any, Connections] | None = None
        self.reports: list[tuple[str, dict[str, Any]]] = []
        """What workers had to tell: (event, fields) each."""

    # --- running jobs

    async def run_until_idle(self) -> int:
        """No job is ready any more at the present time; how many attempts ended.

        Jobs that jobs enqueue run too; retries and delayed jobs wait for their time.
        """
        self._target.maintain()
        worker = Worker(self.app, _OPTIONS, target=self._module_target, report=self._note)
        self._is_running = True
        running = asyncio.create_task(worker.run())
        try:
            await _either(worker.started(), running)
            while not self._is_idle(worker):
                await asyncio.sleep(_LOOK_AGAIN_S)
        finally:
            worker.stop()
            try:
                await running
            finally:
                self._is_running = False
        return worker.finished_count

    async def advance(self, duration: Duration) -> int:
        """Time goes on by so much, and what comes due runs at its time; attempts ended."""
        end_ms = self.clock.now_ms + duration_ms(duration, "duration")
        ended = await self.run_until_idle()
        while (due_ms := self._target.next_due_ms) is not None and due_ms <= end_ms:
            self.clock.advance_to_ms(max(due_ms, self.clock.now_ms + 1))
            ended += await self.run_until_idle()
        self.clock.advance_to_ms(end_ms)
        return ended

    async def run_until_done(self) -> int:
        """Every job is final: time jumps to each retry and delay; attempts ended.

        Raises: `AssertionError` naming a job that nothing will ever run.
        """
        ended = await self.run_until_idle()
        while waiting := [job for job in self.jobs() if job.state not in FINAL_STATES]:
            due_ms = min((job.run_at_ms for job in waiting if job.run_at_ms), default=0)
            assert due_ms > self.clock.now_ms, f"nothing will ever run {_shown(waiting[0])}"
            self.clock.advance_to_ms(due_ms)
            ended += await self.run_until_idle()
        return ended

    def run_until_idle_sync(self) -> int:
        return self.app.run_sync(self.run_until_idle())

    def advance_sync(self, duration: Duration) -> int:
        return self.app.run_sync(self.advance(duration))

    def run_until_done_sync(self) -> int:
        return self.app.run_sync(self.run_until_done())

    # --- looking

    def jobs(self, kind: str = "", state: State | None = None) -> list[JobView]:
        """Every job there is, final ones too, oldest first."""
        states = () if state is None else (int(state),)
        found: list[JobView] = []
        cursor, more = b"", True
        while more:
            page = self._target.run(ListJobs(states=states, kind=kind, cursor=cursor))
            found += page.jobs
            cursor, more = page.cursor, bool(page.cursor)
        return sorted(found, key=lambda job: (job.enqueued_at_ms, job.job_id))

    # --- around a test

    def __enter__(self) -> TestApp:
        assert self._replaced is None, "a TestApp is entered once"
        self._replaced = self.app.env, self.app.connections
        self.app.env = env_at(self.clock, self.app.env)
        self.app.connections = Connections(self.app.env, self._target)
        return self

    def __exit__(self, *_: object) -> None:
        self.app.close_sync()
        self._restore()

    async def __aenter__(self) -> TestApp:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        await self.app.close()
        await asyncio.get_running_loop().run_in_executor(None, self.app.close_sync)
        self._restore()

    def _restore(self) -> None:
        if self._replaced is not None:
            self.app.env, self.app.connections = self._replaced
            self._replaced = None

    def _is_idle(self, worker: Worker) -> bool:
        return worker.is_idle and not self._target.engine.has_ready(worker.queues, worker.kinds)

    async def _run_eagerly(self) -> None:
        # What a handler enqueues runs in the same round: to wait for it would never end.
        if not self._is_running:
            await self.run_until_idle()

    def _note(self, event: str, **fields: Any) -> None:
        self.reports.append((event, fields))


def _shown(job: JobView) -> str:
    return f"{job.kind} {job.job_id.hex()}, which is {State(job.state).word}"


async def _either(started: Any, running: asyncio.Task[None]) -> None:
    """The worker has started, or has failed to: that is raised."""
    waiting = asyncio.ensure_future(started)
    await asyncio.wait([waiting, running], return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        waiting.cancel()
        await running
