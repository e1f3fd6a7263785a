"""A server that dies under its clients and workers, and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace import App, JobContext, Retry, State
from tests.e2e.sdk_kit import Events, ServerProcess, until, working


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path / "data")
    server.start()
    yield server
    server.stop()


async def restart(server: ServerProcess) -> None:
    """Killed and started again, while this loop goes on."""
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, server.kill)
    await loop.run_in_executor(None, server.start)


async def test_killed_server_loses_no_job_and_no_caller_notices(server: ServerProcess) -> None:
    runs: dict[int, int] = {}

    async with App(server.url) as app:

        @app.job(retry=Retry(attempts=20, base="10ms"))
        async def count(number: int) -> int:
            runs[number] = runs.get(number, 0) + 1
            return number

        async def produce(first: int) -> list[int]:
            jobs = [await count.enqueue(number) for number in range(first, first + 100)]
            return [await job.result("60s") for job in jobs]

        async with working(app, concurrency=8):
            producing = asyncio.gather(*(produce(100 * part) for part in range(5)))
            for ran in (50, 250):
                await until(lambda ran=ran: len(runs) >= ran)  # type: ignore[misc]
                await restart(server)
            results = await producing

    assert sorted(number for part in results for number in part) == list(range(500))
    assert set(runs) == set(range(500))


async def test_job_that_runs_while_the_server_dies_is_kept_and_acked_later(
    server: ServerProcess,
) -> None:
    started, finish = asyncio.Event(), asyncio.Event()
    runs: list[int] = []

    async with App(server.url) as app:

        @app.job(retry=Retry(attempts=1))
        async def long(ctx: JobContext) -> str:
            runs.append(ctx.attempt)
            started.set()
            await finish.wait()
            return "survived"

        events = Events()
        async with working(app, report=events):
            job = await long.enqueue()
            await started.wait()
            await restart(server)
            await events.wait_for("connection_lost")
            finish.set()
            assert await job.result("30s") == "survived"
            view = await job.view()

    assert runs == [1]
    assert (State(view.state), view.attempt, view.errors) == (State.SUCCEEDED, 1, [])


async def test_worker_waits_for_a_server_that_is_not_there_yet(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data")
    server.start()
    url = server.url
    server.stop()

    app = App(url)

    @app.job()
    async def hello() -> str:
        return "hello"

    events = Events()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_run_once(app, events))
            await events.wait_for("server_absent")
            await asyncio.get_running_loop().run_in_executor(None, server.start)
        assert "worker_connected" in events.names()
    finally:
        await app.close()
        server.stop()


async def _run_once(app: App, events: Events) -> None:
    async with working(app, report=events):
        assert await (await app.job_types["hello"].enqueue()).result("20s") == "hello"
