"""Worker: one session of a server, its slots, and what lies between push and settlement.

    push ─▶ held (reserved) ─▶ slot (started) ─▶ handler ─▶ settled ─▶ answered, forgotten

The link reconnects by itself. After each reconnect the worker resumes its session: it
lists what it holds, and the server says of each lease keep, drop or cancel. When the
server does not know the session any more, its leases are over: what runs is stopped, and
a fresh session is opened.

Must never start a job whose lease it has not got, nor hold on to one it was told to drop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.client.context import JobFacts
from headrace.client.executors.processes import HandlerProcesses
from headrace.client.executors.threads import HandlerThreads
from headrace.client.heartbeat import HeartbeatThread, Vitals
from headrace.client.held import RESERVED, STARTED, HeldJob, Holdings
from headrace.client.job_type import JobType
from headrace.client.prefetch import Prefetch
from headrace.client.progress import LoopReporter
from headrace.client.reports import WorkerReport, log_report
from headrace.client.running import Handler, Runner
from headrace.client.settle import Settler
from headrace.client.slots import STOP_CANCEL, STOP_LOST, Slot, Slots
from headrace.client.target import AnyLink, LinkEvents
from headrace.model import limits
from headrace.model.commands import (
    CloseSession,
    OpenSession,
    ResumeSession,
    SetCredit,
    Started,
)
from headrace.model.env import Env
from headrace.model.errors import (
    BadRequest,
    ClientError,
    HeadraceError,
    UnknownSession,
)
from headrace.model.handshake import SESSION_RESUME, Welcome
from headrace.model.pushes import CancelPushed, DrainPushed, JobsPushed, Push, RecallPushed
from headrace.model.replies import VERDICT_CANCEL, VERDICT_DROP, SessionOpen, SessionResumed

if TYPE_CHECKING:
    from headrace.client.app import App

_TICK_S = 0.25
_SESSION_ID_BYTES = 16


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How one worker process works."""

    concurrency: int = limits.CONCURRENCY_DEFAULT
    """Jobs that run at one time."""
    queues: tuple[str, ...] = ()
    """Served in rotation; empty: every queue that a job type of the application names."""
    strict: bool = False
    """Serve the queues strictly in the order given instead."""
    prefetch_max: int = limits.PREFETCH_JOBS_MAX
    """Most jobs held beyond those that run; how many it is follows their speed."""
    processes: int = 0
    """Most child processes for `executor="process"`; 0: one for each processor."""
    lease_ms: int = limits.LEASE_MS_DEFAULT
    drain_ms: int = limits.DRAIN_MS_DEFAULT
    """How long running jobs may go on after the worker was asked to stop."""
    name: str = ""
    """Shown beside the host and process; the host's name when empty."""
    build: str = ""
    """Version of the application, shown with the session."""


DEFAULT_OPTIONS = WorkerOptions()


class Worker:
    """Runs the jobs of one application until `stop`. Belongs to the loop that it is run on."""

    def __init__(
        self,
        app: App,
        options: WorkerOptions = DEFAULT_OPTIONS,
        *,
        target: str = "",
        report: WorkerReport = log_report,
    ) -> None:
        self.options = options
        self.session_id = b""
        self._app = app
        self._env: Env = app.env
        self._report = report
        self._module_target = target
        self._handlers = {
            kind: Handler(job_type, app.hooks) for kind, job_type in app.job_types.items()
        }
        self.queues = options.queues or _queues_of(app.job_types.values())
        self._holdings = Holdings()
        self._prefetch = Prefetch(options.concurrency, options.prefetch_max)
        self._heartbeat: HeartbeatThread | None = None
        self._failure: HeadraceError | None = None
        self._stopping = False
        self._ended = False
        self._stop_asked = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._opened = asyncio.Event()
        """A session is open, and what it holds is agreed with the server."""
        self._opening: asyncio.Future[Any] | None = None
        self._resuming: asyncio.Future[Any] | None = None
        self._finished_before = 0
        self._pushed_jobs = 0
        self._pushed_bytes = 0
        self._starved = False
        self._ticked_at_ns = 0

    # --- what its owner calls

    async def run(self) -> None:
        """Jobs have run until `stop`; those not started went back, those running finished.

        Raises: `CannotConnect` and the like only for what trying again cannot cure, such as
        a wrong token; `BadRequest` when the application has no jobs.
        Cancellation: as `stop_now`.
        """
        _refuse_empty(self._handlers)
        self._begin()
        try:
            async with self._app.hooks.worker_lifespan():
                await self._connect()
                try:
                    await self._stop_asked.wait()
                    await self._drain()
                finally:
                    await self._end()
        finally:
            self._settler.close()
            await self._link.close()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Take nothing new, finish what runs within `drain_ms`, then end. A second call: now."""
        if self._stop_asked.is_set():
            self._stop_now.set()
        self._stop_asked.set()

    def stop_now(self) -> None:
        self._stop_asked.set()
        self._stop_now.set()

    async def started(self) -> None:
        """Its session is open: jobs are pushed from here on."""
        await self._opened.wait()

    @property
    def is_idle(self) -> bool:
        """Nothing runs, waits here or is unanswered."""
        return not len(self._holdings)

    @property
    def finished_count(self) -> int:
        """Attempts that this worker has acked or nacked."""
        return self._settler.finished_count

    @property
    def kinds(self) -> tuple[str, ...]:
        """What it can run, aliases included."""
        return tuple(self._handlers)

    @property
    def last_exchange_age_ms(self) -> int:
        """Since the server last said anything: the worker's liveness."""
        return self._link.last_exchange_age_ms

    # --- beginning and ending

    def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        events = LinkEvents(
            on_push=self._on_push,
            on_connected=self._on_connected,
            on_lost=self._on_lost,
            on_failed=self._on_failed,
        )
        self._link: AnyLink = self._app.connections.target.make_link(events)
        self._settler = Settler(self._link, self._holdings, self._report)
        self._threads = HandlerThreads(self._env)
        process_count = self.options.processes or self._env.host.processor_count()
        self._processes = HandlerProcesses(self._env, self._module_target, process_count)
        reporter = LoopReporter(self._env, self._link)
        self._runner = Runner(
            self._settler, self._app.hooks, self, reporter, self._report, self._mark_overrun
        )
        self._slots = Slots(
            self.options.concurrency,
            self._runner.attempt,
            self._announce,
            self._runner.overrun,
            needs_process=lambda held: held.handler.needs_process,
            process_count=process_count,
        )
        self._reporter = reporter
        self._tick()

    async def _connect(self) -> None:
        """Connected, or asked to stop before. An absent server is waited for."""
        while not self._stop_asked.is_set():
            try:
                await self._link.start()
            except ClientError:
                raise
            except HeadraceError as error:
                self._report("server_absent", url=self._app.url, message=str(error))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(limits.BACKOFF_RECONNECT_MS_MAX / 1_000):
                        await self._stop_asked.wait()
            else:
                return

    async def _drain(self) -> None:
        """What can finish in time has; the rest is about to be stopped."""
        self._stopping = True
        for held in self._slots.drain():
            self._settler.release(held)
        running = self._slots.busy_count
        if self._link.connected:
            self._link.call(SetCredit(self.session_id, 0)).add_done_callback(_ignore)
        emptied = self._loop.create_task(self._slots.empty())
        hurried = self._loop.create_task(self._stop_now.wait())
        await asyncio.wait(
            [emptied, hurried],
            timeout=self.options.drain_ms / 1_000,
            return_when=asyncio.FIRST_COMPLETED,
        )
        emptied.cancel()
        hurried.cancel()
        self._report(
            "worker_drained",
            finished=self.finished_count,
            waited_for=running,
            left=self._slots.busy_count,
        )

    async def _end(self) -> None:
        """Whatever still runs is stopped and given back; the session is closed."""
        self._stopping = True
        self._ticker.cancel()
        self._slots.drain()
        await self._slots.close()
        with contextlib.suppress(TimeoutError, HeadraceError):
            async with asyncio.timeout(limits.CONNECT_MS / 1_000):
                await self._processes.close()
                # Without a connection, too: it may come back in time for what has run.
                if self._link.connected or not self._stop_now.is_set():
                    await self._settler.settled()
                if self._link.connected:
                    self._ended = True
                    await self._link.call(CloseSession(self.session_id, "stopped"))
        if self._heartbeat is not None:  # not before: the leases were ours up to here
            await asyncio.wrap_future(self._heartbeat.stop())
        self._threads.close()
        await self._runner.close()

    # --- the session

    def _on_connected(self, welcome: Welcome) -> None:
        self._enter()

    def _enter(self) -> None:
        """The server is asked to open or resume the session, unless it is asked already."""
        if not self._link.connected or self._ended:
            return
        if _is_under_way(self._opening) or _is_under_way(self._resuming):
            return
        if self.session_id:
            self._resume()
        else:
            self._open()

    def _enter_later(self, error: BaseException) -> None:
        """The server was too busy, or its answer did not come; over a new connection the
        worker asks at once, over this one nobody else would."""
        if self._link.connected:
            retry_after_ms = error.retry_after_ms if isinstance(error, HeadraceError) else 0
            wait_ms = max(retry_after_ms, limits.REFUSED_RETRY_MS)
            self._loop.call_later(wait_ms / 1_000, self._enter)

    def _open(self) -> None:
        self.session_id = self._env.entropy.random_bytes(_SESSION_ID_BYTES)
        self._link.set_session(self.session_id, SESSION_RESUME)
        options, host = self.options, self._env.host
        command = OpenSession(
            self.session_id,
            options.name or host.hostname(),
            host.hostname(),
            host.pid(),
            options.build,
            tuple(self._handlers),
            self.queues,
            0 if self._stopping else self._prefetch.credit,
            options.strict,
            options.lease_ms,
        )
        self._opening = self._link.call(command)
        self._opening.add_done_callback(self._on_opened)

    def _on_opened(self, answer: asyncio.Future[Any]) -> None:
        error = _error_of(answer)
        if error is None:
            opened: SessionOpen = answer.result()
            self._begin_life(opened.heartbeat_ms)
        elif isinstance(error, ClientError):
            self._on_failed(error)
        else:  # it may be open all the same: a resume shows
            self._enter_later(error)

    def _begin_life(self, heartbeat_ms: int = 0) -> None:
        """The server knows the session, and hears of it from here on."""
        if self._heartbeat is not None and self._heartbeat.session_id == self.session_id:
            return
        self._report("worker_connected", session_id=self.session_id.hex(), url=self._app.url)
        self._opened.set()
        if not self._app.connections.target.needs_heartbeat:
            return
        if self._heartbeat is not None:
            self._heartbeat.stop()
        self._heartbeat = HeartbeatThread(
            self._env,
            self._app.connections.target,
            self.session_id,
            heartbeat_ms or self.options.lease_ms // limits.HEARTBEATS_PER_LEASE,
            self._vitals,
            self._resume_from_thread,
            self._resume_from_thread,
        )
        self._heartbeat.start()

    def _resume_from_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._enter)

    def _resume(self) -> None:
        """Say what is held; of each lease the server says keep, drop or cancel."""
        session_id = self.session_id
        holdings = list(self._holdings)
        credit = 0 if self._stopping else self._prefetch.credit
        command = ResumeSession(session_id, self._holdings.leases(), credit)

        def answered(answer: asyncio.Future[Any]) -> None:
            if session_id == self.session_id:
                self._on_resumed(holdings, answer)

        self._resuming = self._link.call(command)
        self._resuming.add_done_callback(answered)

    def _on_resumed(self, holdings: list[HeldJob], answer: asyncio.Future[Any]) -> None:
        error = _error_of(answer)
        if isinstance(error, UnknownSession):
            if self._opened.is_set():
                self._report("session_lost", session_id=self.session_id.hex(), jobs=len(holdings))
            for held in holdings:
                self._drop(held)
            self._open()
        elif error is None:
            self._begin_life()
            resumed: SessionResumed = answer.result()
            for held, verdict in zip(holdings, resumed.verdicts, strict=True):
                if verdict == VERDICT_DROP:
                    self._drop(held)
                elif verdict == VERDICT_CANCEL:
                    self._cancel(held)
        elif isinstance(error, ClientError):
            self._on_failed(error)
        else:
            self._enter_later(error)

    def _on_lost(self, error: HeadraceError) -> None:
        self._report("connection_lost", url=self._app.url, message=str(error))

    def _on_failed(self, error: HeadraceError) -> None:
        """Trying again is pointless."""
        self._failure = error
        self.stop_now()

    def _vitals(self) -> Vitals:
        """Of the heartbeat's thread: reads only."""
        silent_ns = self._env.clock.mono_ns() - self._ticked_at_ns
        lag_ms = max(0, silent_ns // 1_000_000 - round(_TICK_S * 1_000))
        holdings = self._holdings
        return Vitals(len(holdings), holdings.digest, lag_ms, self._slots.stuck_count)

    def _tick(self) -> None:
        """The loop moves; credit follows the speed of the jobs."""
        now_ns = self._env.clock.mono_ns()
        elapsed_s = (now_ns - self._ticked_at_ns) / 1e9 if self._ticked_at_ns else 0.0
        self._ticked_at_ns = now_ns
        if elapsed_s and self._opened.is_set() and not self._stopping:
            self._adapt_credit(elapsed_s)
        self._ticker = self._loop.call_later(_TICK_S, self._tick)

    def _adapt_credit(self, elapsed_s: float) -> None:
        finished, self._finished_before = (
            self._settler.finished_count - self._finished_before,
            self._settler.finished_count,
        )
        payload_bytes = self._pushed_bytes / self._pushed_jobs if self._pushed_jobs else 0.0
        self._pushed_jobs = self._pushed_bytes = 0
        starved, self._starved = self._starved, False
        before = self._prefetch.credit
        credit = self._prefetch.note(
            elapsed_s, finished, self._settler.round_trip_s, payload_bytes, starved=starved
        )

        def answered(answer: asyncio.Future[Any]) -> None:
            if _error_of(answer) is not None:
                self._prefetch.credit = before  # the next look asks again

        if credit is not None and self._link.connected:
            self._link.call(SetCredit(self.session_id, credit)).add_done_callback(answered)

    # --- pushes

    def _on_push(self, push: Push) -> None:
        if isinstance(push, JobsPushed):
            # What crosses a resume is void: its answer has given those jobs to others.
            if not _is_under_way(self._resuming):
                self._on_jobs(push)
        elif isinstance(push, CancelPushed):
            for held in self._named(push.leases):
                self._cancel(held)
        elif isinstance(push, RecallPushed):
            self._give_back(push)
        elif isinstance(push, DrainPushed):
            self._report("server_drains", deadline_ms=push.deadline_ms)

    def _on_jobs(self, push: JobsPushed) -> None:
        taken: list[HeldJob] = []
        was_hungry = self._slots.is_hungry
        for group in push.groups:
            handler = self._handlers.get(group.kind)
            for pushed in group.jobs:
                if handler is None:
                    continue  # not a kind we asked for: it goes back when its lease does not show
                if not self._is_news(pushed.job_id, group.token):
                    continue
                held = HeldJob(pushed, group, handler)
                self._holdings.add(held)
                taken.append(held)
                self._pushed_bytes += len(pushed.payload)
        self._pushed_jobs += len(taken)
        if was_hungry and len(self._holdings) >= self._prefetch.credit:
            self._starved = True
        if self._stopping:
            for held in taken:
                self._settler.release(held)
        else:
            self._slots.add(taken)

    def _is_news(self, job_id: bytes, token: int) -> bool:
        """Not held yet. An older lease of the same job is over, and what runs under it stops."""
        older = self._holdings.of(job_id)
        if older is None:
            return True
        if older.token == token:
            return False  # what is owed is sent again; once is enough
        self._drop(older)
        return True

    def _give_back(self, push: RecallPushed) -> None:
        """What was named and has not started, and whatever exceeds the present credit.

        The server asks for as many as the idle worker has room for. When jobs here have
        become slow, all that were fetched for faster ones are better off elsewhere.
        """
        named = [held for held in self._named(push.leases) if held.state == RESERVED]
        for held in named:
            self._settler.release(held)
        surplus = len(self._holdings) - len(named) - self._prefetch.credit
        for held in self._slots.last_waiting(surplus):
            self._settler.release(held)

    def _named(self, leases: list[tuple[bytes, int]]) -> list[HeldJob]:
        found = [self._holdings.get(job_id, token) for job_id, token in leases]
        return [held for held in found if held is not None]

    def _cancel(self, held: HeldJob) -> None:
        if held.state == RESERVED:
            self._settler.release(held)
        elif held.state == STARTED:
            self._stop_started(held, STOP_CANCEL)

    def _drop(self, held: HeldJob) -> None:
        """The lease is over: nothing is said of it any more. An ack on its way stays one."""
        if held.state == RESERVED:
            self._holdings.forget(held)
        elif held.state == STARTED:
            self._stop_started(held, STOP_LOST)
            self._holdings.forget(held)

    def _stop_started(self, held: HeldJob, reason: str) -> None:
        if not self._slots.stop(held, reason):
            # Announced, and its handler has not begun: it never will.
            self._settler.release(held, started=True)

    # --- what slots and runner call

    def _announce(self, jobs: list[HeldJob]) -> None:
        """The server knows that these start, before their handlers do."""
        self._link.send(Started([(held.job_id, held.token) for held in jobs]))

    def _mark_overrun(self, slot: Slot) -> None:
        self._slots.mark_overrun(slot)

    async def in_thread(self, call: Callable[[], Any], on_left_behind: Callable[[], None]) -> Any:
        return await self._threads.run(call, on_left_behind)

    async def in_process(
        self, job_type: JobType[..., Any], facts: JobFacts, payload: bytes
    ) -> bytes | None:
        return await self._processes.run(facts, payload, self._reporter, job_type.child_limits)


def _queues_of(job_types: Iterable[JobType[..., Any]]) -> tuple[str, ...]:
    """Every queue once, in the order in which the application names them."""
    return tuple(dict.fromkeys(job_type.placement.spec.queue for job_type in job_types))


def _error_of(answer: asyncio.Future[Any]) -> BaseException | None:
    return asyncio.CancelledError() if answer.cancelled() else answer.exception()


def _is_under_way(answer: asyncio.Future[Any] | None) -> bool:
    return answer is not None and not answer.done()


def _ignore(answer: asyncio.Future[Any]) -> None:
    """Its error is looked at, so that asyncio does not report it."""
    _error_of(answer)


def _refuse_empty(handlers: dict[str, Handler]) -> None:
    if not handlers:
        raise BadRequest(
            "This application has no jobs, so a worker has nothing to run.",
            hint="Import the modules that define them where the App is made.",
        )
