"""Where handlers run: child processes, threads, a loop that is blocked; and what is injected."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest

from headrace import App, Depends, JobContext, JobFailed, Retry, State
from headrace.client.discovery import load_app
from headrace.runtime.env import real_env
from tests.e2e.sdk_kit import Events, serving, until, working

CHILD_JOBS = """
import os, signal, sys, time
from typing import Annotated
from headrace import App, Depends, GiveUp, JobContext, Retry, RetryLater

app = App({url!r})

def prefix():
    yield "from"

@app.job(executor="process")
def pid_and(number: int, word: Annotated[str, Depends(prefix)] = "") -> list:
    print("this goes to standard error")
    return [os.getpid(), word, number]

@app.job(executor="process", max_jobs=1)
def once() -> int:
    return os.getpid()

@app.job(executor="process", max_rss="1MiB")
def fat() -> int:
    return os.getpid()

@app.job(executor="process")
async def steps(ctx: JobContext) -> str:
    ctx.log("from the child")
    ctx.progress([1])
    if not ctx.snooze_count:
        ctx.release("10ms")
    return f"attempt {{ctx.attempt}}"

@app.job(executor="process", retry=Retry(attempts=2, base="10ms"))
def dies(ctx: JobContext) -> str:
    if ctx.attempt == 1:
        os._exit(3)
    return "lived"

@app.job(executor="process", retry=Retry(attempts=5, base="10ms"))
def raises(how: str) -> None:
    if how == "give up":
        raise GiveUp("hopeless")
    raise RetryLater("1h", "no hurry")

@app.job(executor="process", timeout="1s", retry=Retry(attempts=1))
def naps() -> int:
    time.sleep(0.4)
    return os.getpid()

@app.job(executor="process", timeout="2s", retry=Retry(attempts=1))
def spins(path: str) -> None:
    try:
        while True:
            pass
    finally:
        open(path, "w").write("cleaned up")
"""


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    async with serving(tmp_path / "data") as url, App(url) as app:
        yield app


@pytest.fixture
async def child_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
    """An application in a module of its own, which child processes can load too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    async with serving(tmp_path / "data") as url:
        (tmp_path / "child_jobs.py").write_text(CHILD_JOBS.format(url=url))
        sys.modules.pop("child_jobs", None)
        async with load_app("child_jobs:app") as app:
            yield app


async def run(app: App, kind: str, *args: Any) -> Any:
    return await (await app.job_types[kind].enqueue(*args)).result("20s")


async def test_child_process_runs_job_after_job_with_its_own_dependencies(child_app: App) -> None:
    async with working(child_app, target="child_jobs:app", processes=1):
        first = await run(child_app, "pid_and", 1)
        second = await run(child_app, "pid_and", 2)

    assert first[1:] == ["from", 1]
    assert second == [first[0], "from", 2]


@pytest.mark.parametrize("kind", ["once", "fat"], ids=["max_jobs", "max_rss"])
async def test_child_process_is_replaced_when_it_is_worn(child_app: App, kind: str) -> None:
    async with working(child_app, target="child_jobs:app", processes=1):
        assert await run(child_app, kind) != await run(child_app, kind)


async def test_child_speaks_and_snoozes_through_its_worker(child_app: App) -> None:
    async with working(child_app, target="child_jobs:app"):
        job = await child_app.job_types["steps"].enqueue()
        assert await job.result("20s") == "attempt 1"
        view = await job.view()

    assert view.log_lines == ["from the child"] * 2
    assert view.snooze_count == 1


async def test_child_that_dies_costs_an_attempt_and_nothing_else(child_app: App) -> None:
    async with working(child_app, target="child_jobs:app"):
        job = await child_app.job_types["dies"].enqueue()
        assert await job.result("20s") == "lived"
        errors = (await job.view()).errors

    assert [error.type for error in errors] == ["ChildLost"]
    assert "exit code 3" in errors[0].message


async def test_child_that_dies_while_it_is_idle_costs_no_job_an_attempt(child_app: App) -> None:
    async with working(child_app, target="child_jobs:app", processes=1):
        [first, *_] = await run(child_app, "pid_and", 1)
        os.kill(first, signal.SIGKILL)
        await until(lambda: not real_env().host.process_exists(first))
        job = await child_app.job_types["pid_and"].enqueue(2)
        [second, *_] = await job.result("20s")
        view = await job.view()

    assert second != first
    assert (view.attempt, view.errors) == (1, [])


async def test_failures_in_a_child_steer_the_job_as_elsewhere(child_app: App) -> None:
    async with working(child_app, target="child_jobs:app"):
        with pytest.raises(JobFailed, match="GiveUp: hopeless"):
            await run(child_app, "raises", "give up")
        job = await child_app.job_types["raises"].enqueue("later")
        async with asyncio.timeout(10):
            while (await job.state()) is not State.SCHEDULED:
                await asyncio.sleep(0.01)
        view = await job.view()

    assert view.run_at_ms - view.enqueued_at_ms > 3_000_000


async def test_time_that_a_job_waits_for_a_child_process_is_no_part_of_its_timeout(
    child_app: App,
) -> None:
    async with working(child_app, target="child_jobs:app", processes=1):
        assert await run(child_app, "once")
        children = await asyncio.gather(*(run(child_app, "naps") for _ in range(4)))

    assert len(set(children)) == 1


async def test_child_that_outlives_its_timeout_is_terminated(
    child_app: App, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    async with working(child_app, target="child_jobs:app"):
        with pytest.raises(JobFailed, match="JobTimedOut"):
            await run(child_app, "spins", str(marker))
        await until(marker.exists)

    assert marker.read_text() == "cleaned up"


async def test_blocked_loop_keeps_its_leases_and_is_shown_as_stalled(tmp_path: Path) -> None:
    blocked = threading.Event()
    let_go = threading.Event()
    runs: list[int] = []

    def work(url: str) -> None:
        app = App(url)

        @app.job(retry=Retry(attempts=1))
        async def blocks(ctx: JobContext) -> str:
            runs.append(ctx.attempt)
            blocked.set()
            let_go.wait(20)
            return "alive"

        async def main() -> None:
            async with working(app, lease_ms=1_000):
                job = await blocks.enqueue()
                assert await job.result("10s") == "alive"
            await app.close()

        asyncio.run(main())

    async with serving(tmp_path / "data") as url, App(url) as watcher:
        worker = asyncio.get_running_loop().run_in_executor(None, work, url)
        client = await watcher.client()
        async with asyncio.timeout(20):
            while not blocked.is_set():
                await asyncio.sleep(0.01)
            began_s = time.monotonic()
            while not (sessions := await client.list_sessions()) or not sessions[0].stalled:
                await asyncio.sleep(0.05)
            while time.monotonic() - began_s < 2.5:  # longer than two leases
                await asyncio.sleep(0.05)
        let_go.set()
        await worker

    assert runs == [1]


async def test_dependencies_live_as_long_as_they_say(app: App) -> None:
    events: list[str] = []

    async def pool() -> AsyncIterator[str]:
        events.append("pool opened")
        yield "pool"
        events.append("pool closed")

    Pool = Annotated[str, Depends(pool, scope="worker")]

    def connection(pool: Pool) -> Iterator[str]:
        events.append("connection opened")
        try:
            yield f"connection of {pool}"
        except ValueError:
            events.append("rolled back")
            raise
        finally:
            events.append("connection closed")

    Connection = Annotated[str, Depends(connection)]

    @app.job(retry=Retry(attempts=1))
    async def uses(fail: bool, one: Connection = "", again: Connection = "") -> str:
        assert one is again
        if fail:
            raise ValueError
        return one

    async with working(app):
        assert await (await uses.enqueue(False)).result("10s") == "connection of pool"
        await (await uses.enqueue(True)).wait("10s")
        assert "pool closed" not in events

    opened_and_closed = ["connection opened", "connection closed"]
    failed = ["connection opened", "rolled back", "connection closed"]
    assert events == ["pool opened", *opened_and_closed, *failed, "pool closed"]


async def test_jobs_that_start_together_share_one_dependency_of_the_worker(app: App) -> None:
    made: list[object] = []

    async def slow() -> object:
        await asyncio.sleep(0)
        made.append(object())
        return made[-1]

    @app.job()
    async def uses(thing: Annotated[object, Depends(slow, scope="worker")] = None) -> None: ...

    async with working(app):
        for job in await app.enqueue_many(uses.job() for _ in range(10)):
            await job.result("10s")

    assert len(made) == 1


async def test_hooks_surround_the_worker_and_each_run(app: App) -> None:
    events: list[str] = []

    @app.lifespan
    async def lifespan() -> AsyncIterator[None]:
        events.append("up")
        yield
        events.append("down")

    @app.around_run
    async def outer(ctx: JobContext, call_next: Any) -> Any:
        events.append(f"before {ctx.kind} {ctx.headers['trace']}")
        result = await call_next()
        events.append("after")
        return result + 1

    @app.on_enqueue
    def tag(draft: Any) -> None:
        draft.headers["trace"] = "abc"
        draft.tags = ("tagged",)

    @app.job()
    def plain() -> int:
        return 1

    async with working(app):
        job = await plain.enqueue()
        assert await job.result("10s") == 2
        assert (await job.view()).tags == ("tagged",)

    assert events == ["up", "before plain abc", "after", "down"]


async def test_failing_hook_is_reported_and_changes_nothing(app: App) -> None:
    @app.on_dead
    async def broken(ctx: JobContext, error: BaseException) -> None:
        raise RuntimeError("the hook itself")

    @app.job(retry=Retry(attempts=1))
    async def fails() -> None:
        raise ValueError

    events = Events()
    async with working(app, report=events):
        await (await fails.enqueue()).wait("10s")
        fields = await events.wait_for("hook_failed")

    assert "the hook itself" in fields["error"]
