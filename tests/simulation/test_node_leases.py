"""When leases end by themselves, and when they must not: on simulated hours."""

from __future__ import annotations

import pytest

from headrace.log.base import Commit
from headrace.model import commands as c
from headrace.model import limits
from headrace.model.errors import UnknownSession
from headrace.model.job import WAITING_STATES, State
from headrace.model.options import EngineOptions
from headrace.model.pushes import CancelPushed, RecallPushed
from headrace.model.records import JobsStarted, LeasesExpired
from headrace.runtime.sessions import digest_of
from headrace.testing.sim_loop import SimNodeEnv, run_simulated
from tests.simulation.harness import CheckingPeer, World, session_id

LEASE_MS = 30_000
STEP_MS = limits.DEADLINE_STEP_MS


async def _running_job(world: World, **fields: int) -> tuple[CheckingPeer, bytes, int]:
    """A worker and a job that it has started."""
    worker = await world.worker()
    await world.ask(world.enqueue(**fields))
    job, token = await worker.job()
    world.send(c.Started([(job.job_id, token)]), worker)
    return worker, job.job_id, token


def test_session_without_heartbeat_loses_its_leases_and_is_closed() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        _, job_id, _ = await _running_job(world)
        await world.pause(LEASE_MS - 500)
        assert (await world.state_of(job_id)).state == State.LEASED
        await world.pause(1_000)
        job = await world.state_of(job_id)
        assert (job.state, job.attempt, job.crash_count) == (State.READY, 1, 1)
        assert (await world.ask(c.ListSessions())).sessions == []

    run_simulated(story)


def test_lease_that_has_ended_before_its_commit_was_durable_is_pushed_to_nobody() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker = await world.worker()
        world.disk.hold()
        world.send(world.enqueue())
        await world.pause(10)
        world.send(c.CloseSession(session_id(1), "bye"), worker)
        world.send(world.open_session(1), worker)
        await world.pause(10)
        world.disk.let_go()
        await world.pause(1_000)
        [(job, token)] = worker.jobs()
        await world.ask(c.Ack([(job.job_id, token, None)]), worker)

    run_simulated(story)


def test_lost_worker_is_charged_only_for_what_it_had_started() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        _, started_id, _ = await _running_job(world)
        reserved_id = world.job_id()
        await world.ask(world.enqueue(reserved_id))
        await world.pause(LEASE_MS + 1_000)
        attempts = [(await world.state_of(job_id)).attempt for job_id in (started_id, reserved_id)]
        assert attempts == [1, 0]

    run_simulated(story)


def test_started_frame_of_a_moment_ago_counts_when_the_session_closes() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker, job_id, _ = await _running_job(world)
        await world.ask(c.CloseSession(session_id(1), "crashing"), worker)
        assert (await world.state_of(job_id)).attempt == 1

    run_simulated(story)


def test_session_closed_and_opened_in_one_turn_is_watched_like_any_other() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker = await world.worker()
        world.send(c.CloseSession(session_id(1), "stopped"), worker)
        await world.ask(world.open_session(1), worker)
        await world.ask(world.enqueue())
        job, _ = await worker.job()
        beat = c.Heartbeat(session_id(1), 1, 0, 0, 0)
        await world.ask(beat)

        await world.pause(LEASE_MS + 1_000)
        assert (await world.state_of(job.job_id)).state == State.READY
        assert (await world.ask(c.ListSessions())).sessions == []

    run_simulated(story)


@pytest.mark.parametrize("interval_ms", [LEASE_MS / 3, LEASE_MS * 0.9])
def test_heartbeats_keep_leases_for_hours(interval_ms: float) -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker, job_id, token = await _running_job(world)
        for _ in range(1_000):
            await world.pause(interval_ms)
            await world.ask(c.Heartbeat(session_id(1)), worker)
        assert (await world.ask(c.Ack([(job_id, token, None)]), worker)).problems is None

    run_simulated(story)


def test_heartbeat_of_an_expired_session_is_refused() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker = await world.worker()
        await world.pause(LEASE_MS + 1_000)
        with pytest.raises(UnknownSession):
            await world.ask(c.Heartbeat(session_id(1)), worker)

    run_simulated(story)


def test_thousands_of_leases_expire_in_steps() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env, engine=EngineOptions()).start()
        await world.worker(credit=2_500)
        await world.ask(world.enqueue(*(world.job_id() for _ in range(2_500))))
        await world.settle()
        await world.pause(LEASE_MS + 1_000)
        queue = (await world.ask(c.GetQueue("q"))).queue
        assert (queue.ready, queue.leased) == (2_500, 0)
        expired = [each for each in world.records() if isinstance(each, LeasesExpired)]
        assert max(len(each.leases) for each in expired) <= limits.STEP_JOBS_MAX

    run_simulated(story)


def test_no_lease_ends_while_the_log_stalls() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        _, job_id, _ = await _running_job(world)
        await world.pause(1_000)
        world.disk.hold()
        world.send(world.enqueue())
        await world.pause(10 * LEASE_MS)
        world.disk.let_go()
        await world.pause(LEASE_MS - 3_000)
        assert (await world.state_of(job_id)).state == State.LEASED
        assert world.reported("log_stalled")

        await world.pause(4_000)
        assert (await world.state_of(job_id)).state == State.READY

    run_simulated(story)


def test_no_lease_ends_because_the_loop_was_paused() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker, job_id, token = await _running_job(world)
        await world.pause(1_000)
        env.loop.sleep_through(10 * LEASE_MS / 1000)
        await world.pause(10)
        await world.ask(c.Heartbeat(session_id(1)), worker)
        await world.pause(LEASE_MS - 1_000)
        assert (await world.ask(c.Ack([(job_id, token, None)]), worker)).problems is None
        assert world.reported("loop_paused")

    run_simulated(story)


def test_machine_that_was_suspended_keeps_leases_and_knows_the_time() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        _, job_id, _ = await _running_job(world)
        before_ms = world.node.log_time_ms()
        env.clock.suspended_ms += 8 * 3_600_000
        await world.pause(LEASE_MS - 1_000)
        assert (await world.state_of(job_id)).state == State.LEASED
        assert world.node.log_time_ms() - before_ms > 8 * 3_600_000

    run_simulated(story)


def test_leases_have_their_full_time_again_after_recovery() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        _, job_id, token = await _running_job(world)
        await world.pause(LEASE_MS - 1_000)
        await world.crash()
        await world.start()
        await world.pause(LEASE_MS - 1_000)
        assert (await world.state_of(job_id)).state == State.LEASED

        peer = world.new_peer()
        held = [c.HeldLease(job_id, token, started=True)]
        resumed = await world.ask(c.ResumeSession(session_id(1), held, 10), peer)
        assert resumed.verdicts == [0]
        assert (await world.ask(c.Ack([(job_id, token, b"1")]), peer)).problems is None

    run_simulated(story)


def test_short_lease_outlasts_the_way_back_to_a_server_that_has_recovered() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker = await world.worker(lease_ms=limits.LEASE_MS_MIN)
        await world.ask(world.enqueue())
        job, token = await worker.job()
        await world.ask(world.enqueue(kind="alone"))
        claimed = await world.ask(c.Claim(("q",), ("alone",), lease_ms=limits.LEASE_MS_MIN))
        [alone] = claimed.groups
        await world.crash()
        await world.start()

        await world.pause(limits.BACKOFF_RECONNECT_MS_MAX + 1_000)
        held = [c.HeldLease(job.job_id, token, started=True)]
        peer = world.new_peer()
        assert (await world.ask(c.ResumeSession(session_id(1), held, 10), peer)).verdicts == [0]
        settled = await world.ask(c.Ack([(alone.jobs[0].job_id, alone.token, b"1")]))
        assert settled.problems is None

        await world.pause(limits.RECOVERY_GRACE_MS)
        assert (await world.ask(c.ListSessions())).sessions == []

    run_simulated(story)


def test_session_that_does_not_come_back_after_recovery_expires() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        _, job_id, _ = await _running_job(world)
        await world.pause(1_000)
        await world.crash()
        await world.start()
        await world.pause(LEASE_MS + 1_000)
        job = await world.state_of(job_id)
        assert (job.state, job.attempt) == (State.READY, 1)

    run_simulated(story)


# --- started, timeouts


def test_start_is_logged_only_for_jobs_that_still_run() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker, quick_id, token = await _running_job(world)
        await world.pause(10)
        await world.ask(c.Ack([(quick_id, token, None)]), worker)
        slow_id = world.job_id()
        await world.ask(world.enqueue(slow_id))
        _, slow_token = await worker.job(2)
        world.send(c.Started([(slow_id, slow_token)]), worker)
        await world.settle()
        before = world.store.last_index
        await world.pause(limits.STARTED_LOG_AFTER_MS + 2 * STEP_MS)
        assert (await world.state_of(slow_id)).started
        assert world.store.last_index == before + 2  # TimePassed, JobsStarted

    run_simulated(story)


def test_start_is_logged_once_though_the_worker_names_it_again() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker, job_id, token = await _running_job(world)
        held = [c.HeldLease(job_id, token, started=True)]
        for _ in range(3):
            await world.pause(1_000)
            await world.ask(c.ResumeSession(session_id(1), held, 10), worker)
        starts = [each for each in world.records() if isinstance(each, JobsStarted)]
        assert [each.leases for each in starts] == [[(job_id, token)]]

    run_simulated(story)


def test_job_over_its_timeout_is_ended_by_the_server_after_the_grace() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker, job_id, token = await _running_job(world, timeout_ms=100_000)

        async def beat_for(duration_ms: int) -> None:
            for _ in range(duration_ms // 10_000):
                await world.pause(10_000)
                await world.ask(c.Heartbeat(session_id(1)), worker)

        await beat_for(100_000 + limits.TIMEOUT_GRACE_MS - 10_000)
        assert (await world.state_of(job_id)).state == State.LEASED
        await world.ask(c.SetCredit(session_id(1), 0), worker)
        await beat_for(20_000)
        job = await world.state_of(job_id)
        assert (job.state in WAITING_STATES, job.attempt, job.crash_count) == (True, 1, 0)
        stale = await world.ask(c.Ack([(job_id, token, None)]), worker)
        assert stale.problems[0].code == "stale_lease"

    run_simulated(story)


def test_timeout_of_a_job_that_runs_over_a_restart_begins_again() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        _, job_id, _ = await _running_job(world, timeout_ms=20_000)
        await world.pause(limits.STARTED_LOG_AFTER_MS + 2 * STEP_MS)
        await world.crash()
        await world.start()
        for _ in range(2 + limits.TIMEOUT_GRACE_MS // 10_000):
            assert (await world.state_of(job_id)).state == State.LEASED
            await world.ask(c.Heartbeat(session_id(1)))  # back before the worker's connection
            await world.pause(10_000 + STEP_MS)
        job = await world.state_of(job_id)
        assert (job.state in WAITING_STATES, job.attempt, job.crash_count) == (True, 1, 0)

    run_simulated(story)


def test_timeout_begins_when_the_job_does_not_when_it_is_pushed() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker = await world.worker()
        job_id = world.job_id()
        await world.ask(world.enqueue(job_id, timeout_ms=1_000))
        for _ in range(10):
            await world.pause(10_000)
            await world.ask(c.Heartbeat(session_id(1)), worker)
        assert (await world.state_of(job_id)).state == State.LEASED

    run_simulated(story)


# --- leases without a session


def test_single_lease_ends_by_itself_and_can_be_extended() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        job_id = world.job_id()
        await world.ask(world.enqueue(job_id))
        claimed = await world.ask(c.Claim(("q",), ("k",), lease_ms=10_000))
        token = claimed.groups[0].token
        for _ in range(20):
            await world.pause(9_000)
            await world.ask(c.Extend([(job_id, token)], lease_ms=10_000))
        assert (await world.state_of(job_id)).state == State.LEASED
        await world.pause(10_000 + 2 * STEP_MS)
        job = await world.state_of(job_id)
        assert (job.state, job.attempt) == (State.READY, 1)

    run_simulated(story)


def test_single_leases_of_one_claim_end_together_but_for_the_extended_and_the_acked() -> None:
    """More of them than one step of the watch takes."""

    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        job_ids = [world.job_id() for _ in range(limits.CLAIM_JOBS_MAX)]
        await world.ask(world.enqueue(*job_ids))
        claimed = await world.ask(c.Claim(("q",), ("k",), limits.CLAIM_JOBS_MAX, lease_ms=10_000))
        token = claimed.groups[0].token
        acked, extended, *others = job_ids
        await world.ask(c.Ack([(acked, token, None)]))
        await world.ask(c.Extend([(extended, token)], lease_ms=20_000))
        await world.pause(10_000 + 2 * STEP_MS)
        assert (await world.state_of(acked)).state == State.SUCCEEDED
        assert (await world.state_of(extended)).state == State.LEASED
        assert {(await world.state_of(job_id)).state for job_id in others} == {State.READY}
        await world.pause(10_000)
        assert (await world.state_of(extended)).state == State.READY

    run_simulated(story)


def test_single_lease_can_be_shortened() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        job_id = world.job_id()
        await world.ask(world.enqueue(job_id))
        claimed = await world.ask(c.Claim(("q",), ("k",), lease_ms=3_600_000))
        await world.ask(c.Extend([(job_id, claimed.groups[0].token)], lease_ms=1_000))
        await world.pause(1_000 + 2 * STEP_MS)
        assert (await world.state_of(job_id)).state == State.READY

    run_simulated(story)


# --- sessions and connections


def test_newest_connection_gets_the_jobs() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        old = await world.worker()
        new = world.new_peer()
        await world.ask(c.ResumeSession(session_id(1), [], 10), new)
        world.node.peer_gone(old)
        await world.ask(world.enqueue())
        await new.job()
        assert old.jobs() == []

    run_simulated(story)


def test_session_without_a_connection_keeps_its_leases_and_gets_nothing_new() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker, job_id, _ = await _running_job(world)
        world.node.peer_gone(worker)
        waiting_id = world.job_id()
        await world.ask(world.enqueue(waiting_id))
        await world.pause(LEASE_MS - 1_000)
        states = [(await world.state_of(each)).state for each in (job_id, waiting_id)]
        assert states == [State.LEASED, State.READY]

    run_simulated(story)


def test_credit_from_another_connection_does_not_bring_back_a_lost_one() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker = await world.worker()
        world.node.peer_gone(worker)
        await world.ask(c.SetCredit(session_id(1), 20))
        job_id = world.job_id()
        await world.ask(world.enqueue(job_id))
        assert (await world.state_of(job_id)).state == State.READY

    run_simulated(story)


def test_push_lost_in_a_crash_is_owed_again_after_the_resume() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker = await world.worker()
        job_id = world.job_id()
        request = world.send(world.enqueue(job_id))
        await world.pause()
        thread = world.disk
        thread.hold()
        assert world.log.append(world.node._leader.epoch, _in_flight(world)) > 0
        await world.crash()
        assert request not in worker.answers
        assert not worker.pushes

        await world.start()
        peer = world.new_peer()
        assert (await world.state_of(job_id)).state == State.LEASED
        await world.ask(c.ResumeSession(session_id(1), [], 10), peer)
        job, _ = await peer.job()
        assert (job.job_id, job.attempt) == (job_id, 1)

    run_simulated(story)


def _in_flight(world: World) -> Commit:
    flight = world.node._leader._committer._flight
    assert flight is not None
    return flight.commit


def test_push_on_its_way_is_void_once_its_session_has_resumed() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        await world.worker()
        world.disk.hold()
        world.send(world.enqueue())
        await world.pause(1)
        peer = world.new_peer()
        resumed = world.send(c.ResumeSession(session_id(1), [], 10), peer)
        await world.pause(1)
        world.disk.let_go()
        await peer.answer(resumed)
        await peer.job()
        await world.settle()
        tokens = [token for _, token in peer.jobs()]
        lease = world.engine.lease_of(peer.jobs()[0][0].job_id)
        assert lease is not None
        assert tokens == [lease.token]

    run_simulated(story)


def test_cancel_of_a_running_job_reaches_its_holder() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker, job_id, token = await _running_job(world)
        assert (await world.ask(c.Cancel(job_id))).cancel_requested
        await world.settle()
        assert [push.leases for push in worker.pushes if isinstance(push, CancelPushed)] == [
            [(job_id, token)]
        ]

    run_simulated(story)


def test_same_difference_twice_running_asks_for_a_resume() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker, *_ = await _running_job(world)
        lost = c.Heartbeat(session_id(1), held_count=0, held_digest=0)
        answers = [(await world.ask(lost, worker)).reconcile for _ in range(3)]
        assert answers == [False, True, False]

    run_simulated(story)


def test_heartbeat_that_agrees_asks_for_nothing() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker, *_ = await _running_job(world)
        held = world.engine.leases_of(session_id(1))
        beat = c.Heartbeat(session_id(1), held_count=1, held_digest=digest_of(held))
        assert not any([(await world.ask(beat, worker)).reconcile for _ in range(5)])

    run_simulated(story)


def test_mismatch_of_jobs_in_flight_asks_for_nothing() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker = await world.worker()
        for number in range(1, 6):
            await world.ask(world.enqueue())
            await worker.job(number)
            # The worker has heard of all but the newest.
            held = world.engine.leases_of(session_id(1))[:-1]
            beat = c.Heartbeat(session_id(1), held_count=len(held), held_digest=digest_of(held))
            assert not (await world.ask(beat, worker)).reconcile

    run_simulated(story)


def test_session_list_shows_signs_of_life() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker = await world.worker()
        beat = c.Heartbeat(session_id(1), loop_lag_ms=limits.STALLED_LAG_MS, stuck_slots=3)
        await world.ask(beat, worker)
        await world.pause(5_000)
        view = (await world.ask(c.ListSessions())).sessions[0]
        assert (view.connected, view.stalled, view.stuck_slots) == (True, True, 3)
        assert view.last_seen_ms == pytest.approx(5_000, abs=5)

    run_simulated(story)


def test_idle_worker_gets_unstarted_jobs_of_a_busy_one() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        busy = await world.worker(1)
        await world.ask(world.enqueue(*(world.job_id() for _ in range(8))))
        await busy.job(8)
        world.send(c.Started([(busy.jobs()[0][0].job_id, busy.jobs()[0][1])]), busy)
        idle = await world.worker(2, credit=3)
        await world.pause(3 * limits.RECALL_AFTER_MS)
        recalls = [push.leases for push in busy.pushes if isinstance(push, RecallPushed)]
        assert [len(leases) for leases in recalls[:1]] == [3]

        back = [c.Return(job_id, token) for job_id, token in recalls[0]]
        await world.ask(c.SetCredit(session_id(1), 5), busy)
        await world.ask(c.Release(back), busy)
        await idle.job(3)

    run_simulated(story)


def test_equally_busy_workers_do_not_swap_their_jobs() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        peers = [await world.worker(number, credit=4, lease_ms=600_000) for number in (1, 2)]
        await world.ask(world.enqueue(*(world.job_id() for _ in range(8))))
        for number, peer in enumerate(peers, 1):
            await world.ask(c.SetCredit(session_id(number), 10), peer)
        await world.pause(10 * limits.RECALL_AFTER_MS)
        assert [len(peer.jobs()) for peer in peers] == [4, 4]
        assert not [
            push for peer in peers for push in peer.pushes if isinstance(push, RecallPushed)
        ]

    run_simulated(story)


def test_nobody_is_asked_for_jobs_while_the_idle_one_has_its_own() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        busy = await world.worker(1)
        await world.worker(2, kinds=("other",))
        await world.ask(world.enqueue(*(world.job_id() for _ in range(8))))
        await busy.job(8)
        await world.pause(10 * limits.RECALL_AFTER_MS)
        assert not [push for push in busy.pushes if isinstance(push, RecallPushed)]

    run_simulated(story)
