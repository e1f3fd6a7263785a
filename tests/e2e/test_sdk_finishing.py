"""Jobs as they end: in that order, each once, across restarts of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from headrace import App, HeadraceError, Job, JobFailed, LimitReached, Retry, UnknownJob
from headrace.model.queue import QueueSettings
from headrace.runtime import watches
from tests.e2e.sdk_kit import ServerProcess, serving, until, working


async def collect(ended: list[Job[Any]], found: AsyncIterator[Job[Any]]) -> None:
    async for job in found:
        ended.append(job)


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    async with serving(tmp_path / "data") as url, App(url) as app:
        yield app


async def test_jobs_come_in_the_order_in_which_they_end(app: App) -> None:
    gates = [asyncio.Event() for _ in range(3)]

    @app.job(retry=Retry(attempts=1))
    async def gated(number: int) -> int:
        await gates[number].wait()
        if number == 0:
            raise ValueError(number)
        return number

    async with working(app):
        jobs = [await gated.enqueue(number) for number in range(3)]
        gates[2].set()
        assert await jobs[2].result("10s") == 2
        ended: list[Job[int]] = []
        async for job in app.as_finished(jobs, timeout="20s"):
            ended.append(job)
            if len(ended) < 3:
                gates[2 - len(ended)].set()

        assert ended == [jobs[2], jobs[1], jobs[0]]
        with pytest.raises(JobFailed):
            await ended[2].result()


async def test_thousands_of_jobs_come_once_each_and_handles_of_one_job_together(app: App) -> None:
    @app.job()
    async def noop(number: int) -> int:
        return number

    async with working(app):
        jobs = await app.enqueue_many(noop.job(number) for number in range(2_500))
        again = app.handle(jobs[7].job_id, "noop")
        ended = [job async for job in app.as_finished([*jobs, again], timeout="60s")]

        assert len(ended) == 2_501
        assert {job.job_id for job in ended} == {job.job_id for job in jobs}


async def test_jobs_that_are_not_final_in_time_are_a_timeout(app: App) -> None:
    @app.job()
    async def noop() -> None: ...

    gone = await noop.enqueue()
    stays = await noop.options(delay="1h").enqueue()
    await gone.cancel()
    ended: list[Job[None]] = []
    with pytest.raises(TimeoutError, match="1 jobs are not final after 300ms"):
        await collect(ended, app.as_finished([stays, gone], timeout="300ms"))

    assert ended == [gone]
    assert [job async for job in app.as_finished([], timeout=0)] == []


async def test_jobs_that_are_not_kept_or_not_known_are_final(app: App) -> None:
    @app.job(queue="short")
    async def noop() -> None: ...

    async with working(app):
        await (await app.client()).configure_queue("short", QueueSettings(succeeded_count=0))
        jobs = [await noop.enqueue(), app.handle("0190f3a2-7b1c-7def-8123-456789abcdef")]
        ended = [job async for job in app.as_finished(jobs, timeout="20s")]

        assert set(ended) == set(jobs)
        for job in ended:
            with pytest.raises(UnknownJob):
                await job.result()


async def test_more_jobs_than_a_connection_may_watch_are_refused(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "WATCHES_PER_CONNECTION_MAX", 10)

    @app.job()
    async def noop() -> None: ...

    later = noop.options(delay="1h")
    jobs = await app.enqueue_many(later.job() for _ in range(11))
    with pytest.raises(LimitReached):
        await collect([], app.as_finished(jobs, timeout="60s"))


async def test_client_that_is_closed_meanwhile_ends_the_waiting(app: App) -> None:
    @app.job()
    async def noop() -> None: ...

    job = await noop.options(delay="1h").enqueue()
    waiting = asyncio.ensure_future(anext(aiter(app.as_finished([job], timeout="60s"))))
    client = await app.client()

    async def watched() -> float:
        return (await client.stats()).gauges["headrace_jobs_watched"]

    while not await watched():
        pass
    await app.close()
    with pytest.raises(HeadraceError):
        await waiting


async def test_jobs_of_a_directory_come_as_they_end(tmp_path: Path) -> None:
    async with App(str(tmp_path / "data")) as app:

        @app.job()
        async def double(number: int) -> int:
            return 2 * number

        async with working(app):
            jobs = [await double.enqueue(number) for number in range(50)]
            results = [await job.result() async for job in app.as_finished(jobs, timeout="20s")]

    assert sorted(results) == [2 * number for number in range(50)]


async def test_restarts_of_the_server_lose_no_end_and_tell_none_twice(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data")
    server.start()
    loop = asyncio.get_running_loop()
    gates = [asyncio.Event() for _ in range(3)]
    runs: set[int] = set()
    ended: list[Job[int]] = []

    try:
        async with App(server.url) as app:

            @app.job(retry=Retry(attempts=20, base="10ms"))
            async def count(number: int) -> int:
                await gates[number // 500].wait()
                runs.add(number)
                return number

            jobs = await app.enqueue_many(count.job(number) for number in range(1_500))
            async with working(app, concurrency=4):
                collecting = asyncio.create_task(collect(ended, app.as_finished(jobs, "60s")))
                for step, end in enumerate((server.kill, server.stop)):
                    gates[step].set()
                    await until(lambda step=step: len(runs) > 500 * step)  # type: ignore[misc]
                    gates[step + 1].set()
                    await loop.run_in_executor(None, end)
                    await loop.run_in_executor(None, server.start)
                await collecting
    finally:
        server.stop()

    assert len(ended) == 1_500
    assert {job.job_id for job in ended} == {job.job_id for job in jobs}
