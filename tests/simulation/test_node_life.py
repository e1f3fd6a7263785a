"""Start, waiting, upkeep, drain and stop of one node."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from headrace.log.base import Refused
from headrace.model import commands as c
from headrace.model import limits
from headrace.model.errors import (
    ClockPast,
    Draining,
    FormatNewer,
    Locked,
    LogGap,
    OutcomeUnknown,
    UnknownJob,
)
from headrace.model.job import State
from headrace.model.options import EngineOptions
from headrace.model.pushes import DrainPushed
from headrace.model.records import MACHINE_VERSION, EpochStarted, ProgressReported, TimePassed
from headrace.runtime import recovery
from headrace.runtime.node import Node
from headrace.testing.sim_loop import SimNodeEnv, run_simulated
from tests.simulation.harness import ScriptedLog, World, replayed, session_id

# --- start


def test_first_record_of_a_node_is_its_epoch() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env, name="mill").start()
        first = world.records()[0]
        assert isinstance(first, EpochStarted)
        assert (first.number, first.node, first.machine_version) == (1, "mill", MACHINE_VERSION)
        assert (world.node.epoch, world.node.cluster_id) == (1, world.store.cluster_id)

    run_simulated(story)


def test_restarted_node_has_the_state_of_the_log() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker = await world.worker()
        for number in range(1, 6):
            await world.ask(world.enqueue())
            job, token = await worker.job(number)
            if number % 2:
                await world.ask(c.Ack([(job.job_id, token, b"1")]), worker)
        await world.node.stop(0)
        before = replayed(world).digest()

        await world.start()
        assert world.node.epoch == 2
        assert before != world.engine.digest()  # its own epoch is a record
        assert replayed(world).digest() == world.engine.digest()

    run_simulated(story)


def test_second_node_on_the_same_log_is_told_who_holds_it() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        with pytest.raises(Locked):
            await Node(env, ScriptedLog(env, world.store)).start()
        await world.ask(world.enqueue())

    run_simulated(story)


def test_log_that_begins_in_the_middle_is_not_served() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        await world.ask(world.enqueue())
        await world.ask(world.enqueue())
        await world.node.stop(0)
        del world.store.commits[1]
        with pytest.raises(LogGap):
            await world.start()
        assert world.store.holder is None

    run_simulated(story)


def test_log_of_a_newer_engine_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        await world.node.stop(0)
        monkeypatch.setattr(recovery, "MACHINE_VERSION", 0)
        with pytest.raises(FormatNewer):
            await world.start()

    run_simulated(story)


def test_wall_clock_a_day_behind_the_log_stops_the_start() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        await world.node.stop(0)
        env.clock.wall_shift_ms = -limits.CLOCK_BACKWARD_MS_MAX - 1_000
        with pytest.raises(ClockPast):
            await world.start()
        env.clock.wall_shift_ms = -3_600_000
        await world.start()
        assert world.node.log_time_ms() > env.clock.wall_ms()

    run_simulated(story)


def test_cancelled_start_leaves_nothing_open() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = World(env)
        starting = asyncio.ensure_future(world.start())
        await world.pause()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert world.store.holder is None
        await world.start()

    run_simulated(story)


# --- waiting


def test_parked_claim_is_served_in_the_commit_of_the_enqueue_that_feeds_it() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        claimer = world.new_peer()
        claim = world.send(c.Claim(("q",), ("k",), wait_ms=60_000), claimer)
        await world.pause(1_000)
        before = len(world.commits)
        job_id = world.job_id()
        await world.ask(world.enqueue(job_id))
        reply = await claimer.answer(claim)
        assert reply.groups[0].jobs[0].job_id == job_id
        assert len(world.commits) == before + 1

    run_simulated(story)


def test_parked_claims_are_served_first_come_first_served() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        claims = [world.send(c.Claim(("q",), ("k",), wait_ms=60_000)) for _ in range(5)]
        await world.pause(1)
        await world.ask(world.enqueue(world.job_id(), world.job_id(), world.job_id()))
        await world.settle()
        assert [claim in world.peer.answers for claim in claims] == [True] * 3 + [False] * 2

    run_simulated(story)


def test_parked_claim_is_served_when_a_scheduled_job_becomes_due() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        await world.ask(world.enqueue(delay_ms=5_000))
        claim = world.send(c.Claim(("q",), ("k",), wait_ms=60_000))
        await world.pause(4_900)
        assert claim not in world.peer.answers
        await world.pause(200)
        assert (await world.peer.answer(claim)).groups

    run_simulated(story)


def test_parked_claim_is_answered_empty_when_its_time_is_over() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        before_s = env.loop.time()
        reply = await world.ask(c.Claim(("q",), ("k",), wait_ms=7_000))
        assert reply.groups == []
        assert env.loop.time() - before_s == pytest.approx(7, abs=0.01)

    run_simulated(story)


def test_wait_is_answered_with_the_commit_that_ends_the_job() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker = await world.worker()
        job_id = world.job_id()
        await world.ask(world.enqueue(job_id))
        waits = [world.send(c.WaitJob(job_id, 60_000)) for _ in range(3)]
        _, token = await worker.job()
        assert not set(waits) & set(world.peer.answers)
        acked = await world.ask(c.Ack([(job_id, token, b"42")]), worker)
        for wait in waits:
            reply = await world.peer.answer(wait)
            assert (reply.job.state, reply.job.result) == (State.SUCCEEDED, b"42")
            assert reply.index == acked.index

    run_simulated(story)


def test_wait_for_a_job_that_has_ended_is_answered_at_once() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        job_id = world.job_id()
        await world.ask(world.enqueue(job_id))
        await world.ask(c.Cancel(job_id))
        assert (await world.ask(c.WaitJob(job_id, 60_000))).job.state == State.CANCELLED

    run_simulated(story)


def test_wait_ends_with_the_state_of_then() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        job_id = world.job_id()
        await world.ask(world.enqueue(job_id))
        assert (await world.ask(c.WaitJob(job_id, 3_000))).job.state == State.READY

    run_simulated(story)


def test_wait_outlives_an_end_that_is_undone_in_the_same_turn() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        job_id = world.job_id()
        await world.ask(world.enqueue(job_id))
        world.send(c.Cancel(job_id))
        world.send(c.Revive(job_id))
        wait = world.send(c.WaitJob(job_id, 60_000))
        await world.pause(1_000)
        assert wait not in world.peer.answers
        await world.ask(c.Cancel(job_id))
        assert (await world.peer.answer(wait)).job.state == State.CANCELLED

    run_simulated(story)


def test_wait_for_a_job_that_is_deleted_ends_with_unknown_job() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        job_id = world.job_id()
        await world.ask(world.enqueue(job_id))
        wait = world.send(c.WaitJob(job_id, 60_000))
        await world.ask(c.Delete(job_id))
        with pytest.raises(UnknownJob):
            await world.peer.answer(wait)

    run_simulated(story)


# --- upkeep


def test_scheduled_job_is_pushed_on_time() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker = await world.worker(lease_ms=600_000)
        await world.ask(world.enqueue(delay_ms=100_000))
        before_s = env.loop.time()
        await worker.job()
        assert env.loop.time() - before_s == pytest.approx(100, abs=0.05)

    run_simulated(story)


def test_job_due_while_the_machine_slept_is_pushed_soon_after() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker = await world.worker(lease_ms=600_000)
        await world.ask(world.enqueue(delay_ms=3_600_000))
        await world.pause(1_000)
        env.clock.suspended_ms += 2 * 3_600_000
        await world.pause(limits.MAINTAIN_WAIT_MS_MAX)
        assert len(worker.jobs()) == 1

    run_simulated(story)


def test_many_due_jobs_are_promoted_in_steps() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env, engine=EngineOptions()).start()
        ids = [world.job_id() for _ in range(3_500)]
        await world.ask(world.enqueue(*ids, delay_ms=10_000))
        await world.pause(11_000)
        queue = (await world.ask(c.GetQueue("q"))).queue
        assert (queue.ready, queue.scheduled) == (3_500, 0)
        steps = [each.promote for each in world.records() if isinstance(each, TimePassed)]
        assert [step for step in steps if step] == [1_000, 1_000, 1_000, 500]

    run_simulated(story)


def test_finished_jobs_are_forgotten_when_their_time_is_over() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        await world.configure(succeeded_age_ms=60_000)
        job_id = world.job_id()
        await world.ask(world.enqueue(job_id))
        await world.ask(c.Cancel(job_id))
        await world.pause(50_000)
        assert (await world.state_of(job_id)).state == State.CANCELLED
        await world.pause(limits.REMEMBER_MS)
        with pytest.raises(UnknownJob):
            await world.state_of(job_id)
        await world.settle()
        before = world.disk.call_count
        await world.pause(24 * 3_600_000)
        assert world.disk.call_count <= before + 1

    run_simulated(story)


def test_progress_is_written_twice_a_second_and_the_latest_wins() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker = await world.worker()
        await world.ask(world.enqueue())
        job, token = await worker.job()
        for number in range(100):
            world.send(c.Progress(job.job_id, token, b"%d" % number), worker)
            await world.pause(20)
        await world.pause(2_000)
        written = [each for each in world.records() if isinstance(each, ProgressReported)]
        assert 4 <= len(written) <= 6
        assert written[-1].progress == b"99"

    run_simulated(story)


def test_progress_of_a_lease_that_has_ended_is_not_kept() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        for _ in range(100):
            world.send(c.Progress(world.job_id(), 7, b"1"))
        await world.pause(10)
        assert world.node._leader._gate._recent == {}

    run_simulated(story)


def test_stats_have_counters_gauges_and_percentiles() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        for _ in range(3):
            await world.ask(world.enqueue())
        stats = await world.ask(c.GetStats())
        assert stats.counters["headrace_jobs_enqueued_total"] == 3
        assert stats.counters["headrace_commits_total"] == 3
        assert stats.gauges["headrace_jobs_ready"] == 3
        commit = stats.histograms["headrace_commit_seconds"]
        assert 0 < commit["p50"] <= commit["p99"] <= commit["max"] < 0.01

    run_simulated(story)


# --- stop


def test_drain_refuses_new_work_and_lets_workers_finish() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker = await world.worker()
        await world.ask(world.enqueue())
        job, token = await worker.job()
        stopping = asyncio.ensure_future(world.node.stop(60_000))
        await world.pause(1_000)
        assert world.node.draining
        assert any(isinstance(push, DrainPushed) for push in worker.pushes)
        for command in (world.enqueue(), c.Claim(("q",), ("k",)), world.open_session(2)):
            with pytest.raises(Draining):
                await world.ask(command)
        await world.ask(c.Heartbeat(session_id(1)), worker)
        assert not stopping.done()

        before_s = env.loop.time()
        await world.ask(c.Ack([(job.job_id, token, None)]), worker)
        await stopping
        assert env.loop.time() - before_s < 1
        assert world.store.closed_clean

    run_simulated(story)


def test_drain_ends_at_its_deadline_though_jobs_still_run() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker = await world.worker()
        await world.ask(world.enqueue())
        await worker.job()
        before_s = env.loop.time()
        await world.node.stop(5_000)
        assert env.loop.time() - before_s == pytest.approx(5, abs=0.1)
        await world.start()
        assert (await world.ask(c.GetQueue("q"))).queue.leased == 1

    run_simulated(story)


def test_second_stop_ends_the_drain_at_once() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker = await world.worker()
        await world.ask(world.enqueue())
        await worker.job()
        first = asyncio.ensure_future(world.node.stop(3_600_000))
        await world.pause(1_000)
        before_s = env.loop.time()
        await world.node.stop()
        await first
        assert env.loop.time() - before_s < 1
        assert world.store.closed_clean

    run_simulated(story)


def test_draining_node_pushes_nothing_new() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker = await world.worker(credit=1)
        await world.ask(world.enqueue(world.job_id(), world.job_id()))
        job, token = await worker.job()
        stopping = asyncio.ensure_future(world.node.stop(5_000))
        await world.pause(10)
        await world.ask(c.Ack([(job.job_id, token, None)]), worker)
        await stopping
        assert len(worker.jobs()) == 1

    run_simulated(story)


def test_stop_answers_everybody_who_waits() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        job_id = world.job_id()
        await world.ask(world.enqueue(job_id))
        claim = world.send(c.Claim(("none",), ("k",), wait_ms=60_000))
        wait = world.send(c.WaitJob(job_id, 60_000))
        last = world.send(world.enqueue())
        await world.node.stop(0)
        assert (await world.peer.answer(claim)).groups == []
        assert (await world.peer.answer(last)).index <= world.store.last_index
        with pytest.raises(Draining):
            await world.peer.answer(wait)
        with pytest.raises(Draining):
            await world.ask(c.GetStats())

    run_simulated(story)


@pytest.mark.parametrize("commits_before", range(4))
def test_command_of_the_last_turn_before_a_stop_is_answered(commits_before: int) -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        for _ in range(commits_before):
            world.send(world.enqueue())
            await world.pause(0.3)
        stopping = asyncio.ensure_future(world.node.stop(0))
        request = world.send(c.Flush())
        await stopping
        assert (await world.peer.answer(request)).index == world.store.last_index

    run_simulated(story)


@pytest.mark.parametrize("seed", range(10))
def test_whatever_a_stopping_node_still_takes_it_answers(seed: int) -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        await world.ask(world.enqueue())
        requests = [world.send(world.enqueue())]
        await world.pause(0.05 * seed)
        stopping = asyncio.ensure_future(world.node.stop(0))
        while not stopping.done():
            requests.append(world.send(c.PauseQueue("q")))
            await world.pause(0.02)
        await stopping
        for request in requests:
            with contextlib.suppress(Draining):
                await world.peer.answer(request)

    run_simulated(story, seed=seed)


def test_stop_gives_up_on_a_log_that_takes_nothing() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        world.log.errors = [Refused("full")] * 1_000
        sent = world.send(world.enqueue())
        await world.pause(100)
        before_s = env.loop.time()
        await world.node.stop(0)
        assert env.loop.time() - before_s == pytest.approx(limits.STOP_QUIET_MS / 1000, abs=0.5)
        with pytest.raises(OutcomeUnknown):
            await world.peer.answer(sent)

    run_simulated(story)


@pytest.mark.parametrize("part", ["next_due_ms", "take_turn"])
def test_bug_in_the_nodes_own_work_ends_the_term(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        await world.ask(world.enqueue(delay_ms=5_000))
        monkeypatch.setattr(world.engine, part, lambda: 1 / 0)
        await world.pause(6_000)
        assert [type(bug) for bug in world.failures] == [ZeroDivisionError]

    run_simulated(story)


def test_stop_of_a_node_that_never_started_is_harmless() -> None:
    async def story(env: SimNodeEnv) -> None:
        await World(env).start()
        await Node(env, ScriptedLog(env)).stop()

    run_simulated(story)
