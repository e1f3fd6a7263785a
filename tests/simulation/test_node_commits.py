"""What leaves when: commits, durability, refusals, failures of the log."""

from __future__ import annotations

import pytest

from headrace.log.base import Fenced, Lost, Refused
from headrace.model import commands as c
from headrace.model import limits
from headrace.model.errors import (
    BadRequest,
    DiskFull,
    Draining,
    Internal,
    OutcomeUnknown,
    Overloaded,
    UnknownJob,
)
from headrace.model.job import JobExtra, State
from headrace.model.options import EngineOptions
from headrace.model.queue import DURABILITY_ASYNC, DURABILITY_GROUP, DURABILITY_SYNC
from headrace.testing.sim_loop import SimNodeEnv, run_simulated
from tests.simulation.harness import CREDIT, CheckingPeer, World


def test_reply_waits_until_its_commit_is_durable() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        world.disk.hold()
        request = world.send(world.enqueue())
        await world.pause(10_000)
        assert request not in world.peer.answers

        world.disk.let_go()
        reply = await world.peer.answer(request)
        assert reply.index == world.store.last_index
        assert reply.durability == DURABILITY_GROUP

    run_simulated(story)


def test_commands_that_came_while_the_disk_worked_share_one_append() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        world.disk.hold()
        requests = [world.send(world.enqueue())]
        await world.pause(1)
        for _ in range(20):
            requests.append(world.send(world.enqueue()))
            await world.pause(1)
        before = len(world.commits)

        world.disk.let_go()
        for request in requests:
            await world.peer.answer(request)
        assert [commit.record_count > 20 for commit in world.commits[before:]] == [False, True]

    run_simulated(story)


def test_lone_command_commits_in_the_pass_of_the_loop_that_brought_it() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        world.send(world.enqueue())
        assert not world.disk.busy
        before_s = env.loop.time()
        await world.pause()
        assert (world.disk.busy, env.loop.time()) == (True, before_s)

    run_simulated(story)


def test_peer_is_flushed_once_for_all_replies_of_a_commit() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        requests = [world.send(world.enqueue()) for _ in range(50)]
        await world.peer.answer(requests[-1])
        await world.settle()
        assert (len(world.peer.answers), world.peer.flush_count) == (50, 1)

    run_simulated(story)


def test_read_leaves_in_its_own_turn_when_nothing_is_pending() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        calls = world.disk.call_count
        before_s = env.loop.time()
        reply = await world.ask(c.ListQueues())
        assert (reply.index, env.loop.time()) == (world.store.last_index, before_s)
        assert world.disk.call_count == calls

    run_simulated(story)


def test_read_waits_for_the_commit_of_what_it_saw() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        job_id = world.job_id()
        world.disk.hold()
        world.send(world.enqueue(job_id))
        read = world.send(c.GetJob(job_id))
        await world.pause(1_000)
        assert read not in world.peer.answers

        world.disk.let_go()
        reply = await world.peer.answer(read)
        assert reply.job.state == State.READY

    run_simulated(story)


def test_refusal_carries_the_index_that_it_saw_and_waits_for_it() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        world.disk.hold()
        world.send(world.enqueue())
        refused = world.send(c.GetJob(world.job_id()))
        await world.pause(1_000)
        assert refused not in world.peer.answers

        world.disk.let_go()
        with pytest.raises(UnknownJob) as error:
            await world.peer.answer(refused)
        assert error.value.index == world.store.last_index

    run_simulated(story)


def test_sync_command_shares_its_commit_with_nothing_that_came_later() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        await world.configure("strict", durability=DURABILITY_SYNC)
        before = len(world.commits)
        world.send(world.enqueue())
        strict = world.send(world.enqueue(queue="strict"))
        later = world.send(world.enqueue())
        reply = await world.peer.answer(strict)
        assert reply.durability == DURABILITY_SYNC
        assert later not in world.peer.answers
        assert len(world.commits) == before + 1

        await world.peer.answer(later)
        assert len(world.commits) == before + 2

    run_simulated(story)


async def _async_world(env: SimNodeEnv) -> World:
    world = await World(env).start()
    await world.configure("fast", durability=DURABILITY_ASYNC)
    world.disk.hold()
    return world


def test_async_enqueue_is_answered_early_and_says_so() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await _async_world(env)
        reply = await world.ask(world.enqueue(queue="fast"))
        assert reply.durability == DURABILITY_ASYNC
        assert reply.index > world.store.last_index

    run_simulated(story)


def test_flush_waits_for_what_async_replies_did_not() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await _async_world(env)
        early = await world.ask(world.enqueue(queue="fast"))
        flushed = world.send(c.Flush())
        await world.pause(50)
        assert flushed not in world.peer.answers

        world.disk.let_go()
        assert (await world.peer.answer(flushed)).index >= early.index
        assert world.store.last_index >= early.index

    run_simulated(story)


def test_async_reads_and_claims_still_wait() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await _async_world(env)
        await world.ask(world.enqueue(queue="fast"))
        read = world.send(c.GetQueue("fast"))
        claim = world.send(c.Claim(("fast",), ("k",)))
        await world.pause(50)
        assert not {read, claim} & set(world.peer.answers)

    run_simulated(story)


def test_early_replies_stop_when_the_disk_is_over_the_window_behind() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await _async_world(env)
        await world.ask(world.enqueue(queue="fast"))
        await world.pause(limits.ASYNC_WINDOW_MS_MAX + 1)
        late = world.send(world.enqueue(queue="fast"))
        await world.pause(1_000)
        assert late not in world.peer.answers

        world.disk.let_go()
        assert (await world.peer.answer(late)).durability == DURABILITY_GROUP

    run_simulated(story)


@pytest.mark.parametrize("error", [Lost("cannot be known"), Fenced("epoch 9 leads"), OSError(5)])
def test_lost_log_leaves_everybody_with_outcome_unknown(error: Exception) -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        waiting_id = world.job_id()
        await world.ask(world.enqueue(waiting_id))
        world.log.errors = [error]
        wait = world.send(c.WaitJob(waiting_id, 60_000))
        requests = [world.send(world.enqueue()), world.send(c.GetJob(waiting_id))]
        await world.pause()
        requests.append(world.send(world.enqueue()))
        for request in requests:
            with pytest.raises(OutcomeUnknown):
                await world.peer.answer(request)
        assert (world.failures, world.node.failed) == ([error], True)

        with pytest.raises(Draining):
            await world.peer.answer(wait)
        with pytest.raises(Draining):
            await world.ask(world.enqueue())
        await world.node.stop()

    run_simulated(story)


def test_unexpected_error_in_the_engine_ends_the_term(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        before = len(world.commits)
        sent = world.send(world.enqueue())
        monkeypatch.setattr(world.engine, "dispatch", lambda: 1 / 0)
        with pytest.raises(OutcomeUnknown):
            await world.peer.answer(sent)
        assert isinstance(world.failures[0], ZeroDivisionError)
        await world.settle()
        assert len(world.commits) == before

    run_simulated(story)


def test_command_that_meets_a_bug_is_told_so_and_the_others_that_nobody_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        bystander = world.send(world.enqueue())
        monkeypatch.setattr(world.engine, "run", lambda command, seed: 1 / 0)
        with pytest.raises(Internal):
            await world.ask(world.enqueue())
        with pytest.raises(OutcomeUnknown):
            await world.peer.answer(bystander)
        assert isinstance(world.failures[0], ZeroDivisionError)

    run_simulated(story)


def test_refused_commit_is_offered_again_and_loses_nobody() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        world.log.errors = [Refused("no room"), Refused("no room"), None]
        job_id = world.job_id()
        request = world.send(world.enqueue(job_id))
        await world.pause(1.5 * limits.REFUSED_RETRY_MS)
        assert request not in world.peer.answers

        await world.peer.answer(request)
        assert (await world.state_of(job_id)).state == State.READY
        assert not world.failures
        assert world.reported("log_refused")

    run_simulated(story)


def test_full_disk_refuses_new_jobs_and_takes_acks() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker = await world.worker()
        await world.ask(world.enqueue())
        job, token = await worker.job()
        world.log.room_bytes = 0
        await world.pause(limits.ROOM_LOOK_MS)
        await world.ask(c.PauseQueue("q"))
        with pytest.raises(DiskFull) as refusal:
            await world.ask(world.enqueue())
        assert refusal.value.retry_after_ms > 0
        assert (await world.ask(c.Ack([(job.job_id, token, None)]), worker)).problems is None

    run_simulated(story)


def test_new_jobs_are_taken_again_once_the_disk_has_room() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        world.log.room_bytes = 0
        await world.pause(limits.ROOM_LOOK_MS)
        await world.ask(world.enqueue())
        world.log.room_bytes = 1
        with pytest.raises(DiskFull):
            await world.ask(world.enqueue())
        await world.pause(limits.DISK_CHECK_MS + 100)
        await world.ask(world.enqueue())
        assert [bool(world.reported(name)) for name in ("disk_full", "disk_has_room")] == [True] * 2

    run_simulated(story)


def test_new_work_is_refused_over_the_limit_while_acks_have_room_of_their_own() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker = await world.worker()
        await world.ask(world.enqueue())
        job, token = await worker.job()
        world.disk.hold()
        big = bytes(limits.PAYLOAD_BYTES_DEFAULT)
        crowd = [world.send(world.enqueue(payload=big)) for _ in range(32)]
        await world.pause()
        refused = world.send(world.enqueue())
        acked = world.send(c.Ack([(job.job_id, token, None)]), worker)
        world.disk.let_go()
        with pytest.raises(Overloaded) as overload:
            await world.peer.answer(refused)
        assert overload.value.retry_after_ms > 0
        assert (await worker.answer(acked)).problems is None
        for request in crowd:
            await world.peer.answer(request)
        await world.ask(world.enqueue())

    run_simulated(story)


def test_jobs_held_back_under_load_are_pushed_once_the_disk_has_caught_up() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker = await world.worker()
        world.disk.hold()
        big = bytes(limits.PAYLOAD_BYTES_DEFAULT)
        for _ in range(32):
            world.send(world.enqueue(payload=big))
        await world.pause(1)
        world.disk.let_go()
        await worker.job(CREDIT)

    run_simulated(story)


def test_turn_is_cut_at_the_size_of_a_commit_and_commands_stay_whole() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        world.disk.hold()
        payload = bytes(limits.PAYLOAD_BYTES_DEFAULT)
        before = len(world.commits)
        requests = [
            world.send(world.enqueue(*(world.job_id() for _ in range(7)), payload=payload))
            for _ in range(4)
        ]
        world.disk.let_go()
        for request in requests:
            await world.peer.answer(request)
        sizes = [len(commit.body) for commit in world.commits[before:]]
        assert len(sizes) == 2
        assert max(sizes) <= limits.COMMIT_BODY_BYTES_MAX

    run_simulated(story)


def test_turn_whose_records_outgrow_their_estimate_is_many_commits() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env, engine=EngineOptions()).start()
        extra = JobExtra(tags=tuple(f"{number:064}" for number in range(limits.TAGS_MAX)))
        before = len(world.commits)
        requests = [
            world.send(world.enqueue(*(world.job_id() for _ in range(1_000)), extra=extra))
            for _ in range(30)
        ]
        for request in requests:
            await world.peer.answer(request)
        commits = world.commits[before:]
        assert sum(len(commit.body) for commit in commits) > limits.COMMIT_BODY_BYTES_MAX
        assert max(len(commit.body) for commit in commits) <= limits.COMMIT_BODY_BYTES_MAX
        assert not world.failures

    run_simulated(story)


def test_commit_holds_at_most_so_many_commands() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env, engine=EngineOptions()).start()
        before = len(world.commits)
        count = limits.COMMIT_COMMANDS_MAX + 10
        requests = [world.send(world.enqueue()) for _ in range(count)]
        await world.peer.answer(requests[-1])
        counts = [commit.record_count for commit in world.commits[before:]]
        assert counts == [limits.COMMIT_COMMANDS_MAX, 10]

    run_simulated(story)


def test_malformed_command_is_refused_and_writes_nothing() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        before = world.store.last_index
        with pytest.raises(BadRequest):
            await world.ask(c.Claim((), (), jobs_max=0))
        await world.settle()
        assert world.store.last_index == before

    run_simulated(story)


def test_idle_node_writes_nothing_and_sets_no_timer() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker = await world.worker(lease_ms=30_000)
        await world.settle()
        before = world.disk.call_count
        for _ in range(20):
            await world.pause(10_000)
            await world.ask(c.Heartbeat(bytes(15) + b"\1", held_count=0), worker)
        # One look of the log at its leisure is all that may come.
        assert world.disk.call_count - before <= 1

    run_simulated(story)


def test_log_gets_its_moment_of_leisure_once_a_burst() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        for _ in range(5):
            await world.ask(world.enqueue())
        await world.pause(10_000)
        assert world.log.idle_count == 1
        await world.ask(world.enqueue())
        await world.pause(10_000)
        assert world.log.idle_count == 2

    run_simulated(story)


@pytest.mark.parametrize(
    ("error", "ends"), [(Lost("sync failed"), True), (OSError(28, "no space"), False)]
)
def test_leisure_that_fails_ends_the_term_only_when_the_log_is_lost(
    error: Exception, ends: bool
) -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        world.log.idle_error = error
        await world.ask(world.enqueue())
        await world.pause(1_000)
        assert world.node.failed == ends
        assert bool(world.reported("log_idle_failed")) != ends

    run_simulated(story)


def test_overdue_peer_of_nobody_is_told_nothing_after_it_is_gone() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        gone = CheckingPeer(world.store)
        job_id = world.job_id()
        await world.ask(world.enqueue(job_id))
        world.send(c.WaitJob(job_id, 1_000), gone)
        world.send(c.Claim(("none",), ("k",), wait_ms=1_000), gone)
        await world.pause(10)
        world.node.peer_gone(gone)
        await world.pause(5_000)
        assert gone.answers == {}

    run_simulated(story)
