"""The test kit itself: time, eager running, and leaving the application as it was."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from headrace import App, JobContext, JobFailed, Retry, State, UnknownJob
from headrace.testing import TestApp


@pytest.fixture
def app() -> App:
    return App("headrace://127.0.0.1:1")


async def test_jobs_that_jobs_enqueue_run_too(app: App) -> None:
    @app.job()
    async def leaf(number: int) -> int:
        return number

    @app.job()
    async def root(count: int) -> None:
        await app.enqueue_many(leaf.job(number) for number in range(count))

    async with TestApp(app) as test:
        await root.enqueue(300)

        assert await test.run_until_idle() == 301
        assert len(test.jobs("leaf", State.SUCCEEDED)) == 300


async def test_nothing_runs_until_it_is_told_to(app: App) -> None:
    @app.job()
    async def noop() -> None: ...

    async with TestApp(app) as test:
        job = await noop.enqueue()
        await asyncio.sleep(0)

        assert await job.state() is State.READY
        assert await test.run_until_idle() == 1
        assert await test.run_until_idle() == 0


async def test_eager_enqueue_returns_when_its_job_and_what_that_enqueued_have_run(
    app: App,
) -> None:
    @app.job()
    def leaf(number: int) -> int:
        return number

    @app.job()
    def root(number: int) -> int:
        leaf.enqueue_sync(number)
        return number + 1

    async with TestApp(app, eager=True) as test:
        job = await root.enqueue(1)

        assert await job.state() is State.SUCCEEDED
        assert await job.result() == 2
        assert {one.kind for one in test.jobs(state=State.SUCCEEDED)} == {"root", "leaf"}


async def test_eager_enqueue_of_a_failing_job_leaves_its_retry_to_the_clock(app: App) -> None:
    @app.job(retry=Retry(attempts=2, base="1h", jitter=False))
    async def fails(ctx: JobContext) -> None:
        raise ValueError(ctx.attempt)

    async with TestApp(app, eager=True) as test:
        job = await fails.enqueue()
        assert await job.state() is State.SCHEDULED
        assert await test.advance("1h") == 1

        assert await job.state() is State.DEAD


def test_eager_mode_is_for_code_without_a_loop_too(app: App) -> None:
    @app.job()
    def double(number: int) -> int:
        return 2 * number

    with TestApp(app, eager=True):
        assert [job.result_sync() for job in app.enqueue_many_sync(map(double.job, range(3)))] == [
            0,
            2,
            4,
        ]


async def test_advance_runs_each_job_at_its_time(app: App) -> None:
    times: list[datetime] = []
    start = datetime(2031, 5, 1, 9, tzinfo=UTC)

    async with TestApp(app, now=start) as test:

        @app.job()
        async def notes() -> None:
            times.append(test.clock.now)

        await notes.options(delay="1h").enqueue()
        await notes.options(run_at=start + timedelta(hours=2)).enqueue()
        assert await test.advance("59m") == 0
        assert await test.advance("2h") == 2

        assert times == [start + timedelta(hours=1), start + timedelta(hours=2)]
        assert test.clock.now == start + timedelta(minutes=179)


async def test_retries_run_out_in_no_time(app: App) -> None:
    @app.job(retry=Retry(attempts=5, base="1h", jitter=False))
    async def fails(ctx: JobContext) -> None:
        raise ValueError(ctx.attempt)

    async with TestApp(app) as test:
        begin = test.clock.now
        job = await fails.enqueue()

        assert await test.run_until_done() == 5
        with pytest.raises(JobFailed, match="at attempt 5"):
            await job.result()
        assert test.clock.now - begin >= timedelta(hours=4)


async def test_job_that_nothing_will_run_is_named(app: App) -> None:
    @app.job()
    async def noop() -> None: ...

    async with TestApp(app) as test:
        await (await app.client()).enqueue("default", "unheard_of", b"{}")

        with pytest.raises(AssertionError, match="unheard_of"):
            await test.run_until_done()


async def test_context_sees_the_virtual_deadline(app: App) -> None:
    start = datetime(2031, 5, 1, 9, tzinfo=UTC)
    deadlines: list[datetime | None] = []

    @app.job(timeout="30s")
    async def looks(ctx: JobContext) -> None:
        deadlines.append(ctx.deadline)

    async with TestApp(app, now=start) as test:
        await looks.enqueue()
        await test.run_until_idle()

    assert deadlines == [start + timedelta(seconds=30)]


async def test_waiting_for_a_result_while_jobs_run(app: App) -> None:
    @app.job()
    async def double(number: int) -> int:
        return 2 * number

    async with TestApp(app) as test:
        job = await double.enqueue(4)
        result, _ = await asyncio.gather(job.result("5s"), test.run_until_idle())

    assert result == 8


async def test_cancelling_a_running_job_works_in_memory_too(app: App) -> None:
    started = asyncio.Event()

    @app.job()
    async def endless() -> None:
        started.set()
        await asyncio.Event().wait()

    async with TestApp(app) as test:
        job = await endless.enqueue()
        running = asyncio.create_task(test.run_until_idle())
        await started.wait()
        await job.cancel()
        await running

        assert await job.state() is State.CANCELLED


async def test_unknown_job_is_refused_as_by_a_server(app: App) -> None:
    async with TestApp(app):
        with pytest.raises(UnknownJob):
            await app.handle("0190f3a2-7b1c-7def-8123-456789abcdef").view()


async def test_application_without_jobs_is_said_to_be_one(app: App) -> None:
    async with TestApp(app) as test:
        with pytest.raises(Exception, match="no jobs"):
            await test.run_until_idle()


def test_application_is_as_it_was_afterwards(app: App) -> None:
    env, connections = app.env, app.connections

    with TestApp(app):
        assert app.connections is not connections

    assert (app.env, app.connections) == (env, connections)


async def test_jobs_come_as_they_end_by_the_virtual_clock(app: App) -> None:
    @app.job()
    async def noop(number: int) -> int:
        return number

    async with TestApp(app) as test:
        later = await noop.options(delay="1h").enqueue(1)
        done = await noop.enqueue(2)
        await test.run_until_idle()
        ended = app.as_finished([later, done], timeout="20s")

        assert await anext(ended) is done
        await test.advance("1h")
        assert [job async for job in ended] == [later]
        assert await later.result() == 1


async def test_watches_of_a_client_that_is_closed_are_forgotten(app: App) -> None:
    @app.job()
    async def noop() -> None: ...

    heard: list[object] = []
    async with TestApp(app) as test:
        job = await noop.enqueue()
        await (await app.client()).watch([job.job_id], lambda *told: heard.append(told))
        await app.close()
        assert len(heard) == 1
        assert await test.run_until_idle() == 1
        assert await job.result() is None

    assert len(heard) == 1


def test_jobs_come_as_they_end_without_a_loop(app: App) -> None:
    @app.job()
    def noop(number: int) -> int:
        return number

    with TestApp(app) as test:
        jobs = [noop.enqueue_sync(number) for number in range(3)]
        later = noop.options(delay="1h").enqueue_sync(3)
        test.run_until_idle_sync()
        ended = app.as_finished_sync([later, *jobs])

        assert {next(ended) for _ in jobs} == set(jobs)
        test.advance_sync("1h")
        assert list(ended) == [later]
