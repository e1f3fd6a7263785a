"""A worker and its session, with a server that says what the test wants, when it wants it.

What is arranged here needs an order of events that a real server shows once in a thousand
runs: two resumes on their way, a push that crosses a resume, a refusal for overload.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import pytest_asyncio

from headrace import App, JobContext, Worker, WorkerOptions
from headrace.client.connections import Connections
from headrace.client.target import LinkEvents
from headrace.model import commands
from headrace.model.commands import Command
from headrace.model.errors import HeadraceError, OutcomeUnknown, Overloaded, UnknownSession
from headrace.model.handshake import Welcome
from headrace.model.ids import make_job_id, slot_of_queue
from headrace.model.pushes import JobsPushed
from headrace.model.replies import (
    VERDICT_DROP,
    VERDICT_KEEP,
    Done,
    Problem,
    PushedGroup,
    PushedJob,
    SessionOpen,
    SessionResumed,
    Settled,
)

C = TypeVar("C", bound=Command)
WELCOME = Welcome(1, "test", b"n" * 16, b"c" * 16, None, 1, 0, 10_000, {})
OVERLOADED = Overloaded("Too much waits for the disk.", retry_after_ms=1)


class HandServer:
    """The target of one worker; its answers are given by hand."""

    url = "by hand"
    needs_heartbeat = False
    failure: HeadraceError | None = None

    def __init__(self) -> None:
        self.connected = True
        self.last_exchange_age_ms = 0
        self.asked: list[tuple[Command, asyncio.Future[Any]]] = []
        self.sent: list[Command] = []
        self.credits: list[int] = []
        self.refuses = False
        """Credit, for load."""
        self.running: asyncio.Task[None]
        self.stays = asyncio.Event()
        """When handlers of `stay` have stayed long enough."""
        self._news = asyncio.Event()

    # --- the target, and its link

    def make_link(self, events: LinkEvents) -> HandServer:
        self.events = events
        return self

    def forget_after_fork(self) -> None:
        pass

    async def start(self) -> Welcome:
        self.events.on_connected(WELCOME)
        return WELCOME

    def call(self, command: Command) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if isinstance(command, commands.SetCredit | commands.CloseSession):
            if self.refuses:
                future.set_exception(OVERLOADED)
            else:
                future.set_result(Done())
            if isinstance(command, commands.SetCredit):
                self.credits.append(command.credit)
            return future
        self.asked.append((command, future))
        self._news.set()
        return future

    def send(self, command: Command) -> bool:
        self.sent.append(command)
        return True

    def set_session(self, session_id: bytes | None, mode: int) -> None:
        pass

    async def close(self) -> None:
        pass

    # --- what tests do

    async def next(self, kind: type[C]) -> tuple[C, asyncio.Future[Any]]:
        """The oldest command that has no answer yet; it is of this kind."""
        async with asyncio.timeout(5):
            while not self.asked:
                self._news.clear()
                await self._news.wait()
        command, future = self.asked.pop(0)
        assert isinstance(command, kind), command
        return command, future

    async def open(self) -> bytes:
        """The id of the session that the worker asks for, and gets."""
        command, future = await self.next(commands.OpenSession)
        future.set_result(SessionOpen(session_id=command.session_id, heartbeat_ms=10_000))
        return command.session_id

    def push(self, token: int, *job_ids: bytes, kind: str = "count") -> None:
        jobs = [PushedJob(job_id, 1, b'{"number":1}') for job_id in job_ids]
        group = PushedGroup(token, "default", kind, "application/json", 0, 3, jobs)
        self.events.on_push(JobsPushed([group]))


@pytest_asyncio.fixture
async def server() -> HandServer:
    return HandServer()


@pytest_asyncio.fixture
async def ran() -> list[int]:
    return []


@pytest_asyncio.fixture
async def worker(server: HandServer, ran: list[int]) -> AsyncIterator[Worker]:
    app = App("headrace://127.0.0.1:1")
    app.connections = Connections(app.env, server)

    @app.job()
    async def count(number: int) -> None:
        ran.append(number)

    @app.job()
    async def stay(number: int) -> None:
        ran.append(number)
        try:
            await server.stays.wait()
        finally:
            ran.append(-number)

    @app.job()
    async def later(ctx: JobContext, number: int) -> None:
        ctx.release("1s")

    worker = Worker(app, WorkerOptions(concurrency=1))
    running = server.running = asyncio.create_task(worker.run())
    yield worker
    server.stays.set()
    worker.stop()
    settling = asyncio.create_task(answer_all(server))
    await running
    settling.cancel()


async def answer_all(server: HandServer) -> None:
    while True:
        command, future = await server.next(Command)
        future.set_result(Settled() if not isinstance(command, commands.OpenSession) else Done())


def new_id(number: int = 0) -> bytes:
    return make_job_id(1_700_000_000_000, slot_of_queue("default"), number.to_bytes(8, "big"))


async def passes(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_session_that_could_not_be_opened_for_load_is_asked_for_again(
    server: HandServer, worker: Worker
) -> None:
    _, refused = await server.next(commands.OpenSession)
    refused.set_exception(OVERLOADED)
    _, resuming = await server.next(commands.ResumeSession)
    resuming.set_exception(UnknownSession("No session."))

    await server.open()
    await asyncio.wait_for(worker.started(), 5)


async def test_resume_refused_for_load_is_repeated(server: HandServer, worker: Worker) -> None:
    session_id = await server.open()
    server.events.on_connected(WELCOME)
    _, refused = await server.next(commands.ResumeSession)
    refused.set_exception(OVERLOADED)

    again, future = await server.next(commands.ResumeSession)
    future.set_result(SessionResumed(verdicts=[]))
    assert again.session_id == session_id


async def test_opening_without_an_answer_over_a_living_connection_is_looked_into(
    server: HandServer, worker: Worker
) -> None:
    opening, lost = await server.next(commands.OpenSession)
    lost.set_exception(OutcomeUnknown("No answer came in time."))

    resuming, future = await server.next(commands.ResumeSession)
    future.set_result(SessionResumed(verdicts=[]))
    assert resuming.session_id == opening.session_id
    await asyncio.wait_for(worker.started(), 5)


async def test_many_reasons_to_resume_open_one_session(server: HandServer, worker: Worker) -> None:
    old_id = await server.open()
    await worker.started()
    # A blocked loop finds several heartbeats' news at once, and a new connection.
    worker._resume_from_thread()
    worker._resume_from_thread()
    server.events.on_connected(WELCOME)
    await passes()
    for command, future in server.asked:
        assert isinstance(command, commands.ResumeSession)
        future.set_exception(UnknownSession("No session."))
    server.asked.clear()
    worker._resume_from_thread()
    await passes()

    opened = [command for command, _ in server.asked if isinstance(command, commands.OpenSession)]
    assert len(opened) == 1
    for command, future in server.asked:
        if isinstance(command, commands.ResumeSession) and command.session_id == old_id:
            future.set_exception(UnknownSession("No session."))
    await passes()
    assert sum(isinstance(command, commands.OpenSession) for command, _ in server.asked) == 1


async def test_job_pushed_while_a_resume_is_on_its_way_is_left_to_the_server(
    server: HandServer, worker: Worker, ran: list[int]
) -> None:
    await server.open()
    await worker.started()
    worker._resume_from_thread()
    command, future = await server.next(commands.ResumeSession)
    assert command.held == []
    server.push(7, new_id())
    await passes()
    future.set_result(SessionResumed(verdicts=[]))
    await passes()

    assert ran == []
    assert worker.is_idle


async def test_job_pushed_right_behind_the_answer_of_a_resume_runs(
    server: HandServer, worker: Worker, ran: list[int]
) -> None:
    await server.open()
    await worker.started()
    worker._resume_from_thread()
    _, future = await server.next(commands.ResumeSession)
    future.set_result(SessionResumed(verdicts=[]))
    server.push(8, new_id())
    _, settled = await server.next(commands.Ack)
    settled.set_result(Settled())

    assert ran == [1]


async def test_server_is_told_what_starts_before_its_handler_does(
    server: HandServer, worker: Worker, ran: list[int]
) -> None:
    await server.open()
    await worker.started()
    job_id = new_id()
    server.push(9, job_id)
    while not server.sent:
        await passes(1)
        assert not (ran and not server.sent)

    assert server.sent == [commands.Started([(job_id, 9)])]


async def test_ack_is_said_again_until_the_server_has_answered_it(
    server: HandServer, worker: Worker, ran: list[int]
) -> None:
    await server.open()
    job_id = new_id()
    server.push(7, job_id)
    _, lost = await server.next(commands.Ack)
    lost.set_exception(OutcomeUnknown("Nobody knows."))
    again, future = await server.next(commands.Ack)
    assert [lease[:2] for lease in again.results] == [(job_id, 7)]

    server.events.on_connected(WELCOME)
    resuming, resumed = await server.next(commands.ResumeSession)
    assert [(held.job_id, held.started) for held in resuming.held] == [(job_id, True)]
    resumed.set_result(SessionResumed(verdicts=[VERDICT_KEEP]))
    future.set_result(Settled())
    await passes()

    assert (ran, worker.is_idle) == ([1], True)


async def test_job_that_may_not_snooze_again_is_nacked(server: HandServer, worker: Worker) -> None:
    await server.open()
    job_id = new_id()
    server.push(7, job_id, kind="later")
    _, released = await server.next(commands.Release)
    released.set_result(
        Settled(problems=[Problem(0, "limit_reached", "It has snoozed 1000 times.")])
    )

    nack, settled = await server.next(commands.Nack)
    [failure] = nack.failures
    assert (failure.job_id, failure.token, failure.error.type) == (job_id, 7, "LimitReached")
    assert not worker.is_idle
    settled.set_result(Settled())
    await passes()
    assert worker.is_idle


async def test_credit_that_was_refused_is_asked_for_again(
    server: HandServer, worker: Worker
) -> None:
    await server.open()
    await worker.started()
    worker._settler.round_trip_s = 0.1
    server.refuses = True
    for _ in range(2):
        worker._settler.finished_count += 10_000
        worker._adapt_credit(1.0)
        await passes()
    server.refuses = False
    worker._settler.finished_count += 10_000
    worker._adapt_credit(1.0)

    assert len(server.credits) == 3
    assert server.credits[-1] == worker._prefetch.credit > worker.options.concurrency


async def test_stopping_worker_gives_back_what_has_not_started_while_the_rest_runs_on(
    server: HandServer, worker: Worker, ran: list[int]
) -> None:
    await server.open()
    await worker.started()
    server.push(10, new_id(1), kind="stay")
    server.push(11, new_id(2), new_id(3))
    await passes()
    worker.stop()
    given_back, settled = await server.next(commands.Release)
    settled.set_result(Settled())

    assert [each.job_id for each in given_back.jobs] == [new_id(2), new_id(3)]
    assert ran == [1]


async def test_stopping_worker_waits_for_the_connection_that_takes_its_last_acks(
    server: HandServer, worker: Worker
) -> None:
    await server.open()
    server.push(7, new_id())
    _, settled = await server.next(commands.Ack)
    server.connected = False
    worker.stop()
    await asyncio.wait([server.running], timeout=0.1)
    assert not server.running.done()

    server.connected = True
    server.events.on_connected(WELCOME)
    resuming, resumed = await server.next(commands.ResumeSession)
    assert (len(resuming.held), resuming.credit) == (1, 0)
    resumed.set_result(SessionResumed(verdicts=[VERDICT_KEEP]))
    settled.set_result(Settled())
    await asyncio.wait_for(server.running, 5)


async def test_worker_that_ends_does_not_wait_for_an_ack_for_ever(
    server: HandServer, worker: Worker
) -> None:
    await server.open()
    server.push(7, new_id())
    _, lost = await server.next(commands.Ack)
    lost.set_exception(HeadraceError("the link has failed"))
    await passes()

    assert worker.is_idle


async def test_job_that_is_pushed_twice_runs_once(
    server: HandServer, worker: Worker, ran: list[int]
) -> None:
    await server.open()
    await worker.started()
    job_id = new_id()
    server.push(10, job_id)
    server.push(10, job_id)
    await passes()
    server.push(10, job_id)
    await passes()

    assert ran == [1]
    assert len(server.asked) == 1


async def test_worker_that_resumes_stops_what_the_server_has_given_to_others(
    server: HandServer, worker: Worker, ran: list[int]
) -> None:
    await server.open()
    await worker.started()
    server.push(10, new_id(), kind="stay")
    await passes()
    assert ran == [1]
    worker._resume_from_thread()
    resuming, future = await server.next(commands.ResumeSession)
    future.set_result(SessionResumed(verdicts=[VERDICT_DROP]))
    await passes()

    assert [held.started for held in resuming.held] == [True]
    assert ran == [1, -1]
    assert worker.is_idle
    assert server.asked == []


async def test_newer_lease_of_a_job_replaces_the_one_that_waits_here(
    server: HandServer, worker: Worker, ran: list[int]
) -> None:
    await server.open()
    await worker.started()
    job_id = new_id()
    server.push(10, job_id)
    server.push(20, job_id)

    ack, settled = await server.next(commands.Ack)
    settled.set_result(Settled())

    assert [(acked, token) for acked, token, _ in ack.results] == [(job_id, 20)]
    assert ran == [1]
