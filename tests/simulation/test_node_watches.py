"""Who watches jobs is told of each end once, and not before it is durable."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.model import commands as c
from headrace.model.errors import BatchTooLarge, LimitReached
from headrace.model.job import State
from headrace.model.limits import JOBS_PER_CALL_MAX
from headrace.model.pushes import FinishedPushed
from headrace.model.replies import JobView
from headrace.runtime import watches
from headrace.testing.sim_loop import SimNodeEnv, run_simulated
from tests.simulation.harness import CheckingPeer, World


def told(peer: CheckingPeer) -> list[list[JobView]]:
    """The jobs of each FINISHED push."""
    return [push.jobs for push in peer.pushes if isinstance(push, FinishedPushed)]


def ends(peer: CheckingPeer) -> list[tuple[bytes, int]]:
    return [(view.job_id, view.state) for jobs in told(peer) for view in jobs]


async def enqueued(world: World, count: int = 1) -> list[bytes]:
    job_ids = [world.job_id() for _ in range(count)]
    await world.ask(world.enqueue(*job_ids, payload=b'{"n":1}'))
    return job_ids


async def watched_count(world: World) -> float:
    gauges = (await world.ask(c.GetStats())).gauges
    return float(gauges["headrace_jobs_watched"])


def test_end_is_told_when_it_is_durable_with_result_and_without_payload() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        worker, watcher = await world.worker(), world.new_peer()
        [job_id] = await enqueued(world)
        assert (await world.ask(c.Watch([job_id]), watcher)).problems is None
        _, token = await worker.job()
        await world.settle()
        world.disk.hold()
        ack = world.send(c.Ack([(job_id, token, b"42")]), worker)
        await world.settle()
        assert told(watcher) == []
        world.disk.let_go()
        await worker.answer(ack)
        [[view]] = told(watcher)
        assert (view.job_id, view.state) == (job_id, State.SUCCEEDED)
        assert (view.result, view.payload, view.payload_bytes) == (b"42", None, 7)

    run_simulated(story)


def test_jobs_that_end_together_are_told_in_one_push_to_each_who_watches() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        job_ids = await enqueued(world, 5)
        peers = [world.new_peer(), world.new_peer()]
        for peer in peers:
            await world.ask(c.Watch(job_ids), peer)
        await world.ask(c.Purge("q", (int(State.READY),)))
        for peer in peers:
            assert [len(jobs) for jobs in told(peer)] == [5]
            assert {job_id for job_id, _ in ends(peer)} == set(job_ids)
        assert await watched_count(world) == 0

    run_simulated(story)


def test_job_that_is_final_already_is_told_after_the_reply_once_its_end_is_durable() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        [job_id] = await enqueued(world)
        await world.settle()
        world.disk.hold()
        world.send(c.Cancel(job_id))
        watcher = world.new_peer()
        watch = world.send(c.Watch([job_id, job_id]), watcher)
        await world.settle()
        assert (watcher.answers, watcher.pushes) == ({}, [])
        world.disk.let_go()
        await watcher.answer(watch)
        await world.settle()
        assert ends(watcher) == [(job_id, State.CANCELLED)]

    run_simulated(story)


def test_jobs_that_nobody_knows_are_named_and_the_others_are_watched() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        [job_id] = await enqueued(world)
        settled = await world.ask(c.Watch([world.job_id(), job_id, b"short"]))
        assert [(each.position, each.code) for each in settled.problems] == [
            (0, "unknown_job"),
            (2, "bad_request"),
        ]
        await world.ask(c.Cancel(job_id))
        assert ends(world.peer) == [(job_id, State.CANCELLED)]

    run_simulated(story)


def test_job_that_is_watched_twice_is_told_once() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        [job_id] = await enqueued(world)
        await world.ask(c.Watch([job_id, job_id]))
        await world.ask(c.Watch([job_id]))
        await world.ask(c.Cancel(job_id))
        await world.ask(c.Revive(job_id))
        await world.ask(c.Cancel(job_id))
        assert ends(world.peer) == [(job_id, State.CANCELLED)]

    run_simulated(story)


def test_job_that_is_revived_in_the_turn_of_its_end_is_told_of_the_next_one() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        [job_id] = await enqueued(world)
        await world.ask(c.Watch([job_id]))
        world.send(c.Cancel(job_id))
        await world.ask(c.Revive(job_id))
        assert (told(world.peer), await watched_count(world)) == ([], 1)
        await world.ask(c.Cancel(job_id))
        assert ends(world.peer) == [(job_id, State.CANCELLED)]

    run_simulated(story)


async def _deleted(world: World, job_id: bytes) -> None:
    await world.ask(c.Delete(job_id))


async def _not_kept(world: World, job_id: bytes) -> None:
    await world.configure(succeeded_count=0)
    await world.ask(c.Cancel(job_id))
    await world.pause(1_000)


@pytest.mark.parametrize("leave", [_deleted, _not_kept])
def test_job_that_is_not_kept_is_told_by_its_id_and_state(leave: Any) -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        [job_id] = await enqueued(world)
        await world.ask(c.Watch([job_id]))
        await leave(world, job_id)
        late = world.new_peer()
        await world.ask(c.Watch([job_id]), late)
        await world.settle()
        assert ends(world.peer) == ends(late) == [(job_id, State.CANCELLED)]
        [[view]] = told(late)
        assert (view.queue, view.kind, view.result) == ("", "", None)

    run_simulated(story)


def test_watches_beyond_the_bound_are_refused_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "WATCHES_PER_CONNECTION_MAX", 3)

    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        job_ids = await enqueued(world, 5)
        await world.ask(c.Watch(job_ids[:2]))
        with pytest.raises(LimitReached):
            await world.ask(c.Watch(job_ids[1:4]))
        assert await watched_count(world) == 2
        await world.ask(c.Watch(job_ids[:3]))
        await world.ask(c.Watch(job_ids[3:]), world.new_peer())
        await world.ask(c.Cancel(job_ids[0]))
        await world.ask(c.Watch(job_ids[3:4]))
        assert await watched_count(world) == 4

    run_simulated(story)


def test_call_with_too_many_ids_is_refused() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        with pytest.raises(BatchTooLarge):
            await world.ask(c.Watch([world.job_id()] * (JOBS_PER_CALL_MAX + 1)))

    run_simulated(story)


def test_peer_that_is_gone_watches_nothing() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        job_ids = await enqueued(world, 3)
        stays, goes = world.new_peer(), world.new_peer()
        await world.ask(c.Watch(job_ids[:2]), stays)
        await world.ask(c.Watch(job_ids[1:]), goes)
        world.node.peer_gone(goes)
        assert await watched_count(world) == 2
        for job_id in job_ids:
            await world.ask(c.Cancel(job_id))
        assert (len(ends(stays)), ends(goes)) == (2, [])

    run_simulated(story)


def test_watch_after_a_crash_is_told_what_ended_before_it() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env).start()
        ended, live = await enqueued(world, 2)
        await world.ask(c.Watch([ended, live]))
        await world.ask(c.Cancel(ended))
        await world.crash()
        await world.start()
        await world.ask(c.Watch([ended, live]))
        await world.ask(c.Cancel(live))
        assert ends(world.peer) == [(ended, State.CANCELLED), (live, State.CANCELLED)]

    run_simulated(story)
