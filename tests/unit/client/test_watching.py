"""Watched jobs: each is heard of once, whatever becomes of the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from headrace.client.client import Client
from headrace.client.env_access import default_env
from headrace.client.target import ServerTarget
from headrace.client.watching import Watching
from headrace.model import commands
from headrace.model.errors import (
    CannotConnect,
    HeadraceError,
    LimitReached,
    Overloaded,
    Unauthenticated,
    UnknownJob,
    Unsupported,
)
from headrace.model.handshake import Welcome
from headrace.model.job import State
from headrace.model.limits import BULK_JOBS
from headrace.model.pushes import FinishedPushed
from headrace.model.replies import JobView, Problem, Settled
from headrace.runtime.env import real_env
from headrace.server.compose import RunningServer
from headrace.testing.sim_loop import SimNodeEnv, run_simulated
from tests.unit.client.test_link import Proxy, enqueue
from tests.unit.server.harness import DEADLINE_S, new_id, running, short_directory


class Heard:
    """What was said of which job, in order."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[bytes, int | str]] = []
        self._news = asyncio.Event()

    def __call__(self, job_id: bytes, outcome: JobView | HeadraceError) -> None:
        said = outcome.state if isinstance(outcome, JobView) else outcome.code
        self.outcomes.append((job_id, said))
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._news.clear()
                await self._news.wait()


class Wire:
    """Answers each watch with the next of `answers`, and with success when there is none."""

    def __init__(self) -> None:
        self.asked: list[list[bytes]] = []
        self.answers: list[Settled | HeadraceError] = []

    def call(self, command: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.asked.append(command.job_ids)
        answer = self.answers.pop(0) if self.answers else Settled()
        if isinstance(answer, HeadraceError):
            future.set_exception(answer)
        else:
            future.set_result(answer)
        return future

    def close(self) -> None:
        pass


def scripted() -> tuple[Watching, Wire]:
    watching, wire = Watching(), Wire()
    watching.attach(wire)
    return watching, wire


def push(watching: Watching, *job_ids: bytes) -> None:
    views = [JobView(job_id, "q", "k", State.SUCCEEDED, 100, 1, 8, 0) for job_id in job_ids]
    watching.events.on_push(FinishedPushed(views))


# --- with a wire that answers as it is told


async def test_each_watch_hears_once_however_often_it_is_told() -> None:
    watching, _ = scripted()
    first, second, job_id = Heard(), Heard(), new_id()
    await watching.watch([job_id, job_id], first)
    await watching.watch([job_id], second)
    push(watching, new_id(), job_id)
    push(watching, job_id)

    assert first.outcomes == second.outcomes == [(job_id, State.SUCCEEDED)]


async def test_jobs_that_nobody_knows_are_heard_of_as_such() -> None:
    watching, wire = scripted()
    heard, job_ids = Heard(), [new_id(), new_id()]
    wire.answers = [Settled(problems=[Problem(1, UnknownJob.code, "No such job.")])]
    await watching.watch(job_ids, heard)

    assert heard.outcomes == [(job_ids[1], "unknown_job")]


async def test_many_jobs_are_watched_in_calls_of_a_bounded_size() -> None:
    watching, wire = scripted()
    job_ids = [new_id() for _ in range(2 * BULK_JOBS + 1)]
    await watching.watch(iter(job_ids), Heard())

    assert [len(asked) for asked in wire.asked] == [BULK_JOBS, BULK_JOBS, 1]
    assert [job_id for asked in wire.asked for job_id in asked] == job_ids


async def test_refused_watch_hears_nothing() -> None:
    watching, wire = scripted()
    heard, job_id = Heard(), new_id()
    wire.answers = [LimitReached("Too many.")]
    with pytest.raises(LimitReached):
        await watching.watch([job_id], heard)
    push(watching, job_id)

    assert heard.outcomes == []


async def test_who_does_not_watch_any_more_hears_nothing_and_the_others_do() -> None:
    watching, _ = scripted()
    stays, goes, job_id = Heard(), Heard(), new_id()
    for heard in (stays, goes):
        await watching.watch([job_id], heard)
    watching.forget([job_id, new_id()], goes)
    push(watching, job_id)

    assert (stays.outcomes, goes.outcomes) == ([(job_id, State.SUCCEEDED)], [])


@pytest.mark.parametrize("error", [Unauthenticated("no"), CannotConnect("closed")])
async def test_link_that_will_not_come_back_is_heard_of_by_every_watch(
    error: HeadraceError,
) -> None:
    watching, _ = scripted()
    heard, job_id = Heard(), new_id()
    await watching.watch([job_id], heard)
    watching.events.on_failed(error)
    watching.close()

    assert heard.outcomes == [(job_id, error.code)]


def test_busy_server_is_asked_again_for_what_is_still_open() -> None:
    async def story(env: SimNodeEnv) -> None:
        watching, wire = scripted()
        heard, job_ids = Heard(), [new_id(), new_id(), new_id()]
        await watching.watch(job_ids, heard)
        wire.answers = [Overloaded("Busy.", retry_after_ms=5_000)]
        watching.events.on_connected(Welcome())
        await asyncio.sleep(1)
        push(watching, job_ids[0])
        wire.answers = [LimitReached("Too many.")]
        await asyncio.sleep(10)

        assert wire.asked == [job_ids, job_ids, job_ids[1:]]
        assert heard.outcomes == [
            (job_ids[0], State.SUCCEEDED),
            (job_ids[1], "limit_reached"),
            (job_ids[2], "limit_reached"),
        ]

    run_simulated(story)


async def test_client_without_watching_says_so() -> None:
    with pytest.raises(Unsupported):
        await Client(Wire(), default_env()).watch([], Heard())


# --- over a server


@pytest_asyncio.fixture
async def server() -> AsyncIterator[RunningServer]:
    with short_directory() as directory:
        async with running(directory) as server:
            yield server


@pytest_asyncio.fixture
async def proxy(server: RunningServer) -> AsyncIterator[Proxy]:
    proxy = Proxy()
    await proxy.open(server)
    yield proxy
    await proxy.close()


async def connected(url: str) -> Client:
    watching = Watching()
    link = ServerTarget(real_env(), url, None).make_link(watching.events)
    await link.start()
    return Client(link, real_env(), watching)


async def test_ends_during_a_gap_are_heard_of_after_it(server: RunningServer, proxy: Proxy) -> None:
    watcher, other = await connected(proxy.url), await connected(server.urls[0])
    heard, job_ids = Heard(), [new_id() for _ in range(4)]
    await other.call(enqueue(*job_ids))
    await watcher.watch(job_ids, heard)
    await other.cancel(job_ids[0])
    await heard.until(lambda: len(heard.outcomes) == 1)

    proxy.target, target = ("127.0.0.1", 1), proxy.target
    proxy.cut()
    await other.cancel(job_ids[1])
    await other.delete(job_ids[2])
    proxy.target = target
    await heard.until(lambda: len(heard.outcomes) == 3)
    await other.cancel(job_ids[3])
    await heard.until(lambda: len(heard.outcomes) == 4)

    assert {job_id for job_id, _ in heard.outcomes} == set(job_ids)
    assert {said for _, said in heard.outcomes} == {State.CANCELLED}
    await watcher.close()
    await other.close()


async def test_lost_connection_takes_its_watches_with_it(
    server: RunningServer, proxy: Proxy
) -> None:
    watcher, other = await connected(proxy.url), await connected(server.urls[0])
    job_id = new_id()
    await other.call(enqueue(job_id))
    heard = Heard()
    await watcher.watch([job_id], heard)
    assert (await other.stats()).gauges["headrace_jobs_watched"] == 1
    await watcher.close()

    async def watched() -> float:
        return (await other.stats()).gauges["headrace_jobs_watched"]

    async with asyncio.timeout(DEADLINE_S):
        while await watched():
            await other.call(commands.Flush())
    assert heard.outcomes == [(job_id, "cannot_connect")]
    await other.close()
