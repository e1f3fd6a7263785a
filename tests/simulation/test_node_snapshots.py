"""Snapshots while the node serves: they equal the log, and never stand in its way."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest

from headrace.codec.rows import decode_rows
from headrace.engine.engine import Engine
from headrace.log.base import Lost, Refused, SnapshotInfo
from headrace.log.memory import MemoryLog, MemorySnapshotWriter
from headrace.model import commands as c
from headrace.model import limits
from headrace.model.errors import OutcomeUnknown
from headrace.model.queue import DURABILITY_GROUP, DURABILITY_SYNC
from headrace.model.rows import EndedRow, RememberedRow
from headrace.runtime.snapshots import weight_of
from headrace.testing.sim_loop import SimNodeEnv, run_simulated
from tests.simulation.harness import World, replayed

PAYLOAD = bytes(100_000)
"""Big enough that a snapshot of a few dozen jobs takes many slices."""


async def _filled(world: World, job_count: int = 60) -> list[bytes]:
    ids = [world.job_id() for _ in range(job_count)]
    for start in range(0, job_count, 20):
        await world.ask(world.enqueue(*ids[start : start + 20], payload=PAYLOAD))
    return ids


async def _published(world: World) -> None:
    while not world.reported("snapshot_published"):
        await world.pause(10)


def _engine_of_newest_snapshot(world: World) -> Engine:
    engine = Engine(world.options.engine)
    for block in world.store.snapshots[-1].blocks():
        engine.load_rows(decode_rows(block))
    engine.finish_load()
    return engine


def _replay_until(world: World, index: int) -> Engine:
    engine = Engine(world.options.engine)
    for number, record in enumerate(world.records(), 1):
        if number <= index:
            engine.apply(number, record)
    return engine


@pytest.mark.parametrize("seed", range(12))
def test_snapshot_taken_while_everything_changes_equals_the_log(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The log keeps all its commits, so that the state at any index can be replayed.
    monkeypatch.setattr(MemoryLog, "truncate", lambda self, epoch, before: 1)

    async def story(env: SimNodeEnv) -> None:
        draw = random.Random(seed)
        world = await World(env, snapshot_wal_bytes=5_000_000).start()
        worker = await world.worker(credit=20)
        ids = await _filled(world)
        while not world.reported("snapshot_published"):
            job_id = draw.choice(ids)
            held = worker.jobs()
            job, token = draw.choice(held)
            command = draw.choice(
                [
                    c.Ack([(job.job_id, token, b"done")]),
                    c.Nack([c.Failure(job.job_id, token, _ERROR)]),
                    c.Release([c.Return(job.job_id, token)]),
                    c.Cancel(job_id),
                    c.ChangePriority(job_id, draw.randrange(256)),
                    c.Delete(job_id),
                    world.enqueue(payload=b"new"),
                ]
            )
            world.send(command, worker)
            await world.pause(draw.random() * 4)
        await world.settle()
        info = world.store.snapshots[-1].info
        assert (
            _engine_of_newest_snapshot(world).digest() == _replay_until(world, info.index).digest()
        )
        assert replayed(world).digest() == world.engine.digest()
        assert world.store.last_index > info.index

    run_simulated(story, seed=seed)


_ERROR = c.JobError("Boom")


@pytest.mark.parametrize("durability", [DURABILITY_GROUP, DURABILITY_SYNC])
def test_snapshot_is_of_the_end_of_a_durable_commit(
    durability: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever waits for the disk when it begins; `sync` makes a commit of each command."""
    published: list[int] = []
    publish = MemorySnapshotWriter.publish

    def checked(self: MemorySnapshotWriter) -> SnapshotInfo:
        info = publish(self)
        published.append(info.index)
        assert info.index <= self._log.store.last_index
        return info

    monkeypatch.setattr(MemorySnapshotWriter, "publish", checked)
    monkeypatch.setattr(MemoryLog, "truncate", lambda self, epoch, before: 1)

    async def story(env: SimNodeEnv) -> None:
        world = await World(env, snapshot_wal_bytes=1_000).start()
        await world.configure(durability=durability)
        world.disk.latency_s = 0.02
        for _ in range(600):
            world.send(world.enqueue())
            await world.pause(3)
        await world.pause(60_000)
        ends = {commit.first_index + commit.record_count - 1 for commit in world.commits}
        assert len(published) > 1
        assert set(published) <= ends
        assert not world.reported("snapshot_failed")

    run_simulated(story)


def test_snapshot_begun_while_commits_wait_is_where_recovery_goes_on() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env, snapshot_age_ms=60_000).start()
        await world.ask(world.enqueue())
        await world.pause(59_900)
        world.disk.hold()
        world.send(world.enqueue())
        await world.pause(200)
        for _ in range(3):  # the first of these turns is old enough for a snapshot
            world.send(world.enqueue())
            await world.pause(1)
        world.disk.let_go()
        await _published(world)
        await world.crash()
        await world.start()
        assert world.engine.gauges()["headrace_jobs_ready"] == 5

    run_simulated(story)


def test_commits_go_on_while_a_snapshot_is_written() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env, snapshot_wal_bytes=5_000_000).start()
        await _filled(world)
        env.threads.by_name["headrace-snapshot"].hold()
        for _ in range(10):
            before_s = env.loop.time()
            await world.ask(world.enqueue())
            assert env.loop.time() - before_s < 0.01
        assert not world.store.snapshots
        env.threads.by_name["headrace-snapshot"].let_go()
        await _published(world)

    run_simulated(story)


def test_old_commits_are_dropped_and_recovery_starts_from_the_snapshot() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env, snapshot_wal_bytes=1_000).start()
        while len(world.reported("snapshot_published")) < 3:
            await world.ask(world.enqueue(payload=bytes(1_000)))
            await world.pause(10)
        assert world.store.first_index > 1
        await world.node.stop(0)
        before = replayed(world).digest()
        await world.start()
        recovered = world.reported("node_leads")[-1]
        assert recovered["record_count"] < world.store.last_index
        assert replayed(world).digest() == world.engine.digest() != before

    run_simulated(story)


def test_nothing_new_needs_no_snapshot_however_old_the_last_one_is() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env, snapshot_age_ms=60_000).start()
        await world.ask(world.enqueue())
        for _ in range(100):
            await world.pause(10_000)
            await world.ask(c.ListQueues())
        assert len(world.store.snapshots) == 1

    run_simulated(story)


def test_failed_snapshot_leaves_nothing_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [Refused("the disk is full")]
    write = MemorySnapshotWriter.write

    def failing(self: MemorySnapshotWriter, block: bytes) -> bool:
        if failures:
            raise failures.pop()
        return write(self, block)

    monkeypatch.setattr(MemorySnapshotWriter, "write", failing)

    async def story(env: SimNodeEnv) -> None:
        world = await World(env, snapshot_wal_bytes=1_000_000).start()
        await _filled(world)
        await world.pause(5_000)
        assert (len(world.reported("snapshot_failed")), world.store.snapshots) == (1, [])
        await world.ask(world.enqueue())
        await world.pause(limits.SNAPSHOT_RETRY_MS)
        await world.ask(world.enqueue())
        await _published(world)
        stats = await world.ask(c.GetStats())
        assert stats.counters["headrace_snapshots_failed_total"] == 1

    run_simulated(story)


@pytest.mark.parametrize("step", ["begin", "publish"])
def test_log_that_is_lost_with_a_snapshot_ends_the_term(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: Any) -> None:
        raise Lost("cannot be known")

    if step == "begin":
        monkeypatch.setattr(MemoryLog, "begin_snapshot", lose)
    else:
        monkeypatch.setattr(MemorySnapshotWriter, "publish", lose)

    async def story(env: SimNodeEnv) -> None:
        world = await World(env, snapshot_wal_bytes=5_900_000).start()
        with contextlib.suppress(OutcomeUnknown):
            await _filled(world)
        await world.pause(5_000)
        assert world.node.failed
        assert [type(failure) for failure in world.failures] == [Lost]
        assert not world.reported("snapshot_failed")

    run_simulated(story)


def test_stop_does_not_wait_for_a_snapshot() -> None:
    async def story(env: SimNodeEnv) -> None:
        world = await World(env, snapshot_wal_bytes=5_000_000).start()
        await _filled(world)
        await world.pause(1)
        env.threads.by_name["headrace-snapshot"].latency_s = 3_600
        await world.pause(1_000)
        before_s = env.loop.time()
        await world.node.stop(0)
        assert env.loop.time() - before_s < 1
        assert not world.store.snapshots
        assert world.store.closed_clean

    run_simulated(story)


def test_failure_in_the_middle_of_a_snapshot_ends_cleanly() -> None:
    async def story(env: SimNodeEnv) -> None:
        raised: list[dict[str, Any]] = []
        env.loop.set_exception_handler(lambda loop, context: raised.append(context))
        world = await World(env, snapshot_wal_bytes=5_000_000).start()
        await _filled(world)
        await world.pause(2)
        env.threads.by_name["headrace-snapshot"].hold()
        world.log.errors = [Lost("cannot be known")]
        with pytest.raises(OutcomeUnknown):
            await world.ask(world.enqueue())
        await world.node.stop(0)
        await world.pause(1_000)
        assert raised == []
        assert not world.store.snapshots

    run_simulated(story)


def test_row_that_fills_blocks_counts_its_bytes() -> None:
    assert weight_of(EndedRow(bytes(5_000))) >= 5_000
    assert weight_of(RememberedRow(1, bytes(160), bytes(80))) >= 240
