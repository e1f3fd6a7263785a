"""Jobs through the SDK and a real server: what a handler does, and what becomes of its job."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from headrace import (
    App,
    GiveUp,
    JobCancelled,
    JobContext,
    JobFailed,
    Retry,
    RetryLater,
    State,
    Worker,
)
from headrace.model.errors import (
    BadRequest,
    BatchTooLarge,
    KeyConflict,
    PayloadTooLarge,
    Unauthenticated,
)
from headrace.model.settings import ServerSettings, Settings
from headrace.runtime.env import real_env
from headrace.server.compose import serve
from tests.e2e.sdk_kit import Events, serving, until, working

FAST = Retry(attempts=3, base="10ms", jitter=False)


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    async with serving(tmp_path / "data") as url, App(url) as app:
        yield app


async def test_job_runs_and_its_result_comes_back(app: App) -> None:
    @app.job(queue="mail", timeout="30s")
    async def send_welcome(user_id: int, template: str = "default") -> str:
        return f"{template} to {user_id}"

    async with working(app):
        job = await send_welcome.enqueue(42)
        assert job.created
        assert await job.result(timeout="10s") == "default to 42"
        assert await job.state() is State.SUCCEEDED
        assert await app.handle(job.id, "send_welcome").result() == "default to 42"


async def test_failing_job_is_retried_and_its_errors_are_kept(app: App) -> None:
    @app.job(retry=FAST)
    async def flaky(ctx: JobContext) -> int:
        if ctx.attempt < 3:
            raise ValueError(f"attempt {ctx.attempt}")
        return ctx.attempt

    async with working(app):
        job = await flaky.enqueue()
        assert await job.result(timeout="10s") == 3
        view = await job.view()

    assert [error.message for error in view.errors] == ["attempt 1", "attempt 2"]
    assert "raise ValueError" in view.errors[0].traceback
    assert "headrace/client" not in view.errors[0].traceback


async def test_job_out_of_attempts_is_dead_and_tells_its_last_error(app: App) -> None:
    told: list[tuple[str, int, str]] = []
    app.on_retry(lambda ctx, error: told.append(("retry", ctx.attempt, str(error))))
    app.on_dead(lambda ctx, error: told.append(("dead", ctx.attempt, str(error))))

    @app.job(retry=Retry(attempts=2, base="10ms"))
    async def broken() -> None:
        raise LookupError("nothing there")

    async with working(app):
        job = await broken.enqueue()
        with pytest.raises(JobFailed) as failure:
            await job.result(timeout="10s")

    assert failure.value.remote_type == "LookupError"
    assert failure.value.remote_message == "nothing there"
    assert "raise LookupError" in failure.value.remote_traceback
    assert told == [("retry", 1, "nothing there"), ("dead", 2, "nothing there")]


class Hopeless(ValueError):
    pass


@pytest.mark.parametrize(
    ("error", "reason"),
    [(Hopeless("no"), "gave_up"), (GiveUp("why"), "gave_up")],
    ids=["give_up_on", "GiveUp"],
)
async def test_giving_up_makes_a_job_dead_at_once(app: App, error: Exception, reason: str) -> None:
    runs: list[int] = []

    @app.job(retry=Retry(attempts=5, base="10ms", give_up_on=(Hopeless,)))
    async def hopeless(ctx: JobContext) -> None:
        runs.append(ctx.attempt)
        raise error

    async with working(app):
        view = await (await hopeless.enqueue()).wait("10s")

    assert (State(view.state), view.reason, runs) == (State.DEAD, reason, [1])


async def test_retry_later_sets_its_own_delay_and_charges_an_attempt(app: App) -> None:
    @app.job(retry=Retry(attempts=2, base="1h"))
    async def later(ctx: JobContext) -> int:
        if ctx.attempt == 1:
            raise RetryLater("50ms", "not ready")
        return ctx.attempt

    async with working(app):
        job = await later.enqueue()
        assert await job.result(timeout="10s") == 2
        assert [error.message for error in (await job.view()).errors] == ["not ready"]


async def test_snoozed_job_runs_again_without_an_attempt(app: App) -> None:
    attempts: list[tuple[int, int]] = []

    @app.job(retry=Retry(attempts=1))
    async def snoozes(ctx: JobContext) -> str:
        attempts.append((ctx.attempt, ctx.snooze_count))
        if ctx.snooze_count < 2:
            ctx.release("20ms")
        return "done"

    async with working(app):
        assert await (await snoozes.enqueue()).result(timeout="10s") == "done"

    assert attempts == [(1, 0), (1, 1), (1, 2)]


async def test_payload_that_does_not_fit_is_dead_and_shows_what_was_expected(app: App) -> None:
    @app.job(retry=FAST)
    async def strict(number: int) -> None: ...

    async with working(app):
        client = await app.client()
        accepted = await client.enqueue("default", "strict", b'{"numbr": 1}')
        with pytest.raises(JobFailed, match=r"strict\(number: int\)") as failure:
            await app.handle(accepted.job_id).result("10s")

    assert failure.value.remote_type == "PayloadMismatch"
    assert len(failure.value.errors) == 1


async def test_coroutine_as_a_result_is_a_failure(app: App) -> None:
    async def work() -> None: ...

    @app.job(retry=FAST)
    def forgets_to_await() -> Any:
        return work()

    async with working(app):
        with pytest.raises(JobFailed, match="nobody awaited"):
            await (await forgets_to_await.enqueue()).result("10s")


async def test_unknown_kind_waits_and_runs_when_a_worker_knows_it(app: App) -> None:
    @app.job()
    async def known() -> None: ...

    client = await app.client()
    accepted = await client.enqueue("default", "unheard_of", b"{}")
    async with working(app):
        await (await known.enqueue()).result("10s")
        assert (await client.get_job(accepted.job_id)).state == State.READY
        assert (await client.get_queue("default")).unroutable == 1

    @app.job(kind="renamed", aliases=["unheard_of"])
    async def now_known() -> str:
        return "at last"

    async with working(app):
        assert await app.handle(accepted.job_id).result("10s") == "at last"


async def test_timeout_cancels_an_async_handler_and_counts_as_a_failure(app: App) -> None:
    cleaned: list[str] = []

    @app.job(timeout="50ms", retry=Retry(attempts=1))
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append("up")

    @app.job()
    async def quick() -> str:
        return "fine"

    async with working(app, concurrency=1):
        with pytest.raises(JobFailed) as failure:
            await (await slow.enqueue()).result("10s")
        assert failure.value.remote_type == "JobTimedOut"
        assert await (await quick.enqueue()).result("10s") == "fine"

    assert cleaned == ["up"]


async def test_handler_may_use_timeouts_and_task_groups(app: App) -> None:
    @app.job()
    async def structured() -> list[int]:
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0, number)) for number in range(3)]
        return [task.result() for task in tasks]

    async with working(app):
        assert await (await structured.enqueue()).result("10s") == [0, 1, 2]


async def test_sync_handler_that_times_out_is_nacked_and_its_slot_shown_as_stuck(app: App) -> None:
    cancelled = threading.Event()
    let_go = threading.Event()

    @app.job(timeout="50ms", retry=Retry(attempts=1))
    def stuck(ctx: JobContext) -> None:
        while not ctx.cancelled:
            pass
        cancelled.set()
        let_go.wait(10)

    @app.job()
    def other() -> str:
        return threading.current_thread().name

    events = Events()
    async with working(app, concurrency=2, report=events) as worker:
        job = await stuck.enqueue()
        with pytest.raises(JobFailed, match="JobTimedOut"):
            await job.result("10s")
        assert cancelled.wait(5)
        assert worker._slots.stuck_count == 1
        assert (await (await other.enqueue()).result("10s")).startswith("headrace-handler")
        let_go.set()
        await until(lambda: worker._slots.stuck_count == 0)

    assert "handler_overrun" in events.names()


async def test_cancelling_a_waiting_job_is_final(app: App) -> None:
    @app.job()
    async def never() -> None: ...

    job = await never.options(delay="1h").enqueue()
    changed = await job.cancel("not needed")

    assert State(changed.state) is State.CANCELLED
    with pytest.raises(JobCancelled, match="not needed"):
        await job.result()


async def test_cancelling_a_running_job_stops_its_handler(app: App) -> None:
    started = asyncio.Event()
    seen: list[str] = []

    @app.job()
    async def runs(ctx: JobContext) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append(f"cancelled={ctx.cancelled}")
            raise

    async with working(app):
        job = await runs.enqueue()
        await started.wait()
        assert (await job.cancel()).cancel_requested
        with pytest.raises(JobCancelled):
            await job.result("10s")

    assert seen == ["cancelled=True"]


async def test_context_variables_of_one_job_are_not_seen_by_the_next(app: App) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="clean")

    @app.job()
    async def dirty() -> str:
        before = variable.get()
        variable.set("dirty")
        return before

    async with working(app, concurrency=1):
        jobs = await app.enqueue_many(dirty.job() for _ in range(3))
        assert [await job.result("10s") for job in jobs] == ["clean"] * 3


async def test_progress_and_log_lines_are_shown_with_the_job(app: App) -> None:
    go_on = asyncio.Event()

    @app.job()
    async def talks(ctx: JobContext) -> None:
        ctx.log("one")
        ctx.log("two")
        ctx.progress({"done": 50})
        await go_on.wait()

    async with working(app):
        job = await talks.enqueue()
        client = await app.client()
        async with asyncio.timeout(10):
            while not (view := await client.get_job(job.job_id)).progress:
                await asyncio.sleep(0.01)
        go_on.set()
        await job.result("10s")

    assert view.progress == b'{"done":50}'
    assert view.log_lines == ["one", "two"]


async def test_same_key_gives_the_first_job_and_another_payload_is_refused(app: App) -> None:
    @app.job()
    async def once(number: int) -> None: ...

    keyed = once.options(key="one")
    first = await keyed.enqueue(1)
    second = await keyed.enqueue(1)

    assert (second.id, second.created) == (first.id, False)
    with pytest.raises(KeyConflict):
        await keyed.enqueue(2)


async def test_enqueues_of_one_pass_are_answered_one_by_one(app: App) -> None:
    @app.job()
    async def once(number: int) -> None: ...

    await once.options(key="taken").enqueue(0)

    answers = await asyncio.gather(
        once.enqueue(1),
        once.options(key="taken").enqueue(9),
        once.enqueue(2),
        return_exceptions=True,
    )

    assert [type(answer).__name__ for answer in answers] == ["Job", "KeyConflict", "Job"]


async def test_bulk_is_split_into_chunks_and_atomic_refuses_to_be(app: App) -> None:
    @app.job()
    async def noop(number: int) -> None: ...

    jobs = await app.enqueue_many(noop.job(number) for number in range(12_345))
    assert len({job.job_id for job in jobs}) == 12_345
    assert (await (await app.client()).get_queue("default")).ready == 12_345

    atomic = await app.enqueue_many((noop.job(number) for number in range(10_000)), atomic=True)
    assert len(atomic) == 10_000
    with pytest.raises(BatchTooLarge, match=r"10,000 jobs"):
        await app.enqueue_many((noop.job(number) for number in range(10_001)), atomic=True)


async def test_refused_chunk_tells_how_many_others_were_taken(app: App) -> None:
    @app.job()
    async def noop(number: int) -> None: ...

    await noop.options(key="taken").enqueue(0)
    drafts = [noop.job(number) for number in range(1_500)]
    drafts.append(noop.options(key="taken").job(1))

    with pytest.raises(KeyConflict) as refusal:
        await app.enqueue_many(drafts)

    assert refusal.value.details["enqueued"] == 1_000


async def test_sync_calls_work_from_any_thread_and_inside_a_running_loop(app: App) -> None:
    @app.job()
    async def double(number: int) -> int:
        return 2 * number

    def from_a_thread() -> int:
        return double.enqueue_sync(4).result_sync("10s")

    async with working(app):
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(None, from_a_thread) == 8
    # This blocks the loop that the server runs on, so it must be somebody else's.
    await loop.run_in_executor(None, lambda: asyncio.run(_enqueue_inside(double)))
    await loop.run_in_executor(None, app.close_sync)


async def _enqueue_inside(double: Any) -> None:
    assert double.enqueue_sync(4).created


async def test_jobs_not_started_are_handed_back_and_running_ones_finish(app: App) -> None:
    started = asyncio.Event()
    finish = asyncio.Event()
    ran: list[int] = []

    @app.job()
    async def slow(number: int) -> None:
        started.set()
        await finish.wait()
        ran.append(number)

    jobs = await app.enqueue_many(slow.job(number) for number in range(5))
    async with working(app, concurrency=1) as worker:
        await started.wait()
        worker.stop()
        finish.set()

    views = [await job.view() for job in jobs]
    assert ran == [0]
    assert [State(view.state).word for view in views] == ["succeeded", *["ready"] * 4]
    assert [view.attempt for view in views[1:]] == [0] * 4


async def test_second_stop_ends_at_once_and_gives_running_jobs_back_uncharged(app: App) -> None:
    started = asyncio.Event()

    @app.job()
    async def endless() -> None:
        started.set()
        await asyncio.Event().wait()

    job = await endless.enqueue()
    async with working(app) as worker:
        await started.wait()
        worker.stop()
        worker.stop()

    view = await job.view()
    assert (State(view.state), view.attempt) == (State.READY, 0)


async def test_jobs_held_behind_a_slow_one_go_to_an_idle_worker(app: App) -> None:
    release, blocked = asyncio.Event(), asyncio.Event()

    @app.job()
    async def quick(number: int) -> int:
        return number

    @app.job()
    async def slow() -> None:
        blocked.set()
        await release.wait()

    async with working(app, concurrency=1) as busy:
        while busy._prefetch.credit <= 4:  # until its speed makes it ask for more than it runs
            jobs = await app.enqueue_many(quick.job(number) for number in range(500))
            await jobs[-1].result("20s")
        await slow.options(priority=200).enqueue()
        await app.enqueue_many(quick.job(number) for number in range(500))
        await blocked.wait()

        async with working(app, concurrency=1):
            async with asyncio.timeout(10):
                client = await app.client()
                while (queue := await client.get_queue("default")).leased > 1 or queue.ready:
                    await asyncio.sleep(0.02)
        release.set()


async def test_worker_ends_with_the_reason_when_trying_again_is_pointless(
    app: App, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "token").chmod(0o600)
    guard = ServerSettings(
        listen=("127.0.0.1:0",), unix_socket=False, token_file=str(tmp_path / "token")
    )
    server = await serve(real_env(), str(tmp_path / "guarded"), Settings(server=guard))
    guarded = App(server.urls[0], token="wrong")

    @guarded.job()
    async def noop() -> None: ...

    try:
        with pytest.raises(Unauthenticated):
            await Worker(guarded, report=Events()).run()
        async with App(server.urls[0], token="secret") as known:
            assert await (await known.client()).list_queues() == []
    finally:
        await server.stop(0)


async def test_application_without_jobs_has_nothing_to_run(app: App) -> None:
    with pytest.raises(BadRequest, match="no jobs"):
        await Worker(app).run()


async def test_payload_over_its_limit_is_refused_before_it_is_sent(app: App) -> None:
    @app.job()
    async def big(text: str) -> None: ...

    with pytest.raises(PayloadTooLarge, match="'big'"):
        await big.enqueue("x" * (4 << 20))
    with pytest.raises(PayloadTooLarge):
        await big.enqueue("x" * (2 << 20))  # over the limit of the queue
    assert (await big.enqueue("x" * 100_000)).created


async def test_result_over_its_limit_makes_the_job_dead_and_says_so(app: App) -> None:
    @app.job(retry=FAST)
    async def chatty() -> str:
        return "x" * (1 << 20)

    async with working(app):
        with pytest.raises(JobFailed, match="reference"):
            await (await chatty.enqueue()).result("10s")


async def test_wait_for_a_result_ends_in_time_and_leaves_the_job_alone(app: App) -> None:
    @app.job()
    async def never() -> None: ...

    job = await never.enqueue()
    with pytest.raises(TimeoutError, match="its state is ready"):
        await job.result(timeout="50ms")

    assert await job.state() is State.READY
