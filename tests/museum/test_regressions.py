"""Bugs of the museum whose first test passed with the bug put back: what notices them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from headrace import App, Worker
from headrace.client.connections import Connections
from headrace.client.slots import STOP_DRAIN
from headrace.log.base import Refused
from headrace.model import commands, limits
from headrace.model.commands import ChangePriority, Purge
from headrace.model.job import JobError, State
from headrace.model.options import EngineOptions
from headrace.model.replies import Purged, Settled
from headrace.testing.sim_loop import SimNodeEnv, run_simulated
from tests.recovery.story import ROOT
from tests.recovery.story import Story as LogStory
from tests.recovery.test_faults import BODY, before_rotation
from tests.simulation.harness import World
from tests.unit.client.test_slots import Bench, passes
from tests.unit.client.test_worker_session import HandServer, answer_all, new_id
from tests.unit.engine.story import PLAIN, Story
from tests.unit.engine.test_retention import kept, succeed

# --- the log, on a disk with ever so little room


def test_start_on_a_disk_with_any_room_is_refused_or_good_and_never_lost() -> None:
    for room_bytes in range(0, 64 * 1024, 512):
        story = LogStory(1)
        story.disk.capacity_bytes = room_bytes
        with suppress(Refused):
            story.start()
            story.append(3, BODY)
        story.disk.capacity_bytes = 1 << 30
        story.kill().start().append(3, BODY).close().start()


def test_log_led_again_on_a_full_disk_is_refused_or_good_with_any_room_and_never_lost() -> None:
    """It gave its reserved room back when it closed; then others make some room, but how much?"""
    for room_bytes in range(12 * 1024, 18 * 1024, 64):
        story = before_rotation().close()
        story.disk.capacity_bytes -= story.disk.free_bytes(ROOT) - 2048
        story.start()
        story.disk.capacity_bytes += room_bytes
        with suppress(Refused):
            story.append(2, BODY)
        story.disk.capacity_bytes = 1 << 30
        story.kill().start().append(3, BODY).close().start()


# --- the engine


def test_largest_ring_pays_though_another_queue_ended_a_job_last() -> None:
    story = Story(EngineOptions(verify=True, finished_bytes=20_000))
    small = succeed(story, 3, queue="video", payload=bytes(100))
    succeed(story, 15, payload=bytes(1_000))
    (newest,) = succeed(story, 1, queue="video", payload=bytes(3_000))

    assert {job_id for job_id, _ in [*small, newest]} <= set(kept(story))


def test_priority_changed_there_and_back_behind_another_returned_job() -> None:
    """Both copies of the job stand in one heap, under one number."""
    story = Story()
    ids = story.enqueue(4)
    story.release(*story.claim(2))
    for priority in (7, 100, 7, 100):
        story.run(ChangePriority(ids[1], priority))

    assert [job_id for job_id, _ in story.claim(4)] == ids


def test_first_step_of_a_purge_is_short_among_many_jobs_of_other_queues() -> None:
    story = Story(PLAIN)
    for _ in range(3):
        story.enqueue(10_000, queue="video", delay_ms=1_000)
    story.enqueue(5, delay_ms=2_000)
    first = story.run(Purge("mail", (int(State.SCHEDULED),)))

    assert isinstance(first, Purged)
    assert first.more


# --- the node


def test_turn_of_large_errors_is_many_commits() -> None:
    """Nacks carry up to 16 KiB each, which no estimate has counted."""

    async def story(env: SimNodeEnv) -> None:
        world = await World(env, engine=EngineOptions()).start()
        jobs = [world.job_id() for _ in range(5_000)]
        leases: list[tuple[bytes, int]] = []
        for first in range(0, len(jobs), 1_000):
            await world.ask(world.enqueue(*jobs[first : first + 1_000]))
            claimed = await world.ask(commands.Claim(("q",), ("k",), 1_000, lease_ms=60_000))
            leases += [(job.job_id, group.token) for group in claimed.groups for job in group.jobs]
        error = JobError(type="Large", message="m" * 8_000, traceback="t" * 4_000)
        failures = [commands.Failure(*lease, error) for lease in leases]
        before = len(world.commits)
        requests = [
            world.send(commands.Nack(failures[first : first + 100]))
            for first in range(0, len(failures), 100)
        ]
        for request in requests:
            await world.peer.answer(request)
        bodies = [len(commit.body) for commit in world.commits[before:]]
        assert sum(bodies) > limits.COMMIT_BODY_BYTES_MAX
        assert max(bodies) <= limits.COMMIT_BODY_BYTES_MAX

    run_simulated(story)


# --- the worker


@asynccontextmanager
async def working(app: App, server: HandServer) -> AsyncIterator[Worker]:
    app.connections = Connections(app.env, server)  # type: ignore[arg-type]
    worker = Worker(app)
    running = server.running = asyncio.create_task(worker.run())
    yield worker
    worker.stop()
    settling = asyncio.create_task(answer_all(server))
    await running
    settling.cancel()


async def test_newer_lease_stops_what_runs_under_the_older_one() -> None:
    app, server = App("headrace://127.0.0.1:1"), HandServer()
    began: asyncio.Queue[int] = asyncio.Queue()
    stopped: asyncio.Queue[int] = asyncio.Queue()
    let_go = asyncio.Event()

    @app.job()
    async def count(number: int) -> None:
        await began.put(number)
        try:
            await let_go.wait()
        except asyncio.CancelledError:
            await stopped.put(number)
            raise

    async with working(app, server) as worker:
        await server.open()
        await worker.started()
        job_id = new_id()
        server.push(10, job_id)
        await asyncio.wait_for(began.get(), 5)
        server.push(20, job_id)
        await asyncio.wait_for(stopped.get(), 5)
        let_go.set()
        ack, answer = await server.next(commands.Ack)
        answer.set_result(Settled())

    assert [(acked, token) for acked, token, _ in ack.results] == [(job_id, 20)]


async def test_handler_that_needs_a_second_to_clean_up_has_it() -> None:
    started, cleaned = asyncio.Event(), []
    loop = asyncio.get_running_loop()

    async def cleans_up(number: int) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            until_s = loop.time() + 0.5
            while loop.time() < until_s:
                await passes(1)
            cleaned.append(number)

    bench = Bench(1, cleans_up)
    bench.add(1)
    await started.wait()
    await bench.slots.close()

    assert (cleaned, bench.stops) == ([1], [STOP_DRAIN])
