"""Lives of a node that ends at any moment: what was promised is kept.

One seed is one life: clients enqueue, workers run, ack, fail and vanish, the disk is fast
or slow, and the process dies between any two of these. Checked after every death:

- no acknowledged job is lost, and none that was acked runs again;
- the recovered state is the one that the log describes;
- a worker never holds a job under a lease that somebody else got later and finished.
"""

from __future__ import annotations

import errno
import random

import pytest

from headrace.model import commands as c
from headrace.model.errors import HeadraceError
from headrace.model.job import FINAL_STATES, State
from headrace.model.replies import Enqueued, Settled
from headrace.testing.sim_disk import Fault
from headrace.testing.sim_loop import SimNodeEnv, run_simulated
from tests.simulation.harness import CheckingPeer, FileWorld, World, replayed, session_id

WORKERS = 3


class Life:
    """The promises of one run, and what is asked next."""

    def __init__(self, world: World, draw: random.Random) -> None:
        self.world = world
        self.draw = draw
        self.workers: dict[int, CheckingPeer] = {}
        self.open_calls: list[tuple[CheckingPeer, int, c.Command]] = []
        self.enqueued: set[bytes] = set()
        self.acked: set[bytes] = set()
        self.known: list[bytes] = []

    async def step(self) -> None:
        action = self.draw.choices(
            [self.enqueue, self.work, self.change, self.connect, self.let_time_pass, self.die],
            [25, 45, 5, 3, 25, 2],
        )[0]
        await action()
        self.collect()

    async def enqueue(self) -> None:
        ids = [self.world.job_id() for _ in range(self.draw.randint(1, 4))]
        self.known += ids
        delay_ms = self.draw.choice([0, 0, 0, 50, 5_000])
        self.call(self.world.enqueue(*ids, delay_ms=delay_ms), self.world.peer)

    async def work(self) -> None:
        busy = [peer for peer in self.workers.values() if peer.jobs()]
        if not busy:
            return
        peer = self.draw.choice(busy)
        job, token = self.draw.choice(peer.jobs()[-4:])
        roll = self.draw.random()
        if roll < 0.6:
            self.call(c.Ack([(job.job_id, token, b"r")]), peer)
        elif roll < 0.75:
            self.call(c.Nack([c.Failure(job.job_id, token, c.JobError("E"))]), peer)
        elif roll < 0.85:
            self.call(c.Release([c.Return(job.job_id, token)]), peer)
        else:
            self.world.send(c.Started([(job.job_id, token)]), peer)

    async def change(self) -> None:
        if self.known:
            job_id = self.draw.choice(self.known)
            self.call(self.draw.choice([c.Reschedule(job_id), c.ChangePriority(job_id, 1)]))

    async def connect(self) -> None:
        """A worker appears, comes back over a new connection, or is gone."""
        number = self.draw.randint(1, WORKERS)
        old = self.workers.pop(number, None)
        if old is not None:
            self.world.node.peer_gone(old)
            if self.draw.random() < 0.3:
                return
        peer = self.workers[number] = self.world.new_peer()
        if self.world.node.knows_session(session_id(number)):
            self.call(c.ResumeSession(session_id(number), [], 5), peer)
        else:
            self.call(self.world.open_session(number, credit=5, lease_ms=2_000), peer)

    async def let_time_pass(self) -> None:
        self.world.disk.latency_s = self.draw.choice([0.0001, 0.0005, 0.02])
        await self.world.pause(self.draw.choice([0, 1, 5, 20, 200, 1_500]))

    async def die(self) -> None:
        """The answers that were on their way are lost with us."""
        self.collect()
        await self.world.crash(self.draw)
        self.workers.clear()
        self.open_calls.clear()
        await self.world.start()
        await self.check()
        for _ in range(WORKERS):
            await self.connect()

    def call(self, command: c.Command, peer: CheckingPeer | None = None) -> None:
        asker = peer or self.world.peer
        self.open_calls.append((asker, self.world.send(command, asker), command))

    def collect(self) -> None:
        """Answers that came are promises."""
        still_open = []
        for peer, request, command in self.open_calls:
            answer = peer.answers.get(request)
            if answer is None:
                still_open.append((peer, request, command))
            elif isinstance(command, c.Enqueue) and isinstance(answer, Enqueued):
                self.enqueued |= {job.job_id for job in command.jobs}
            elif isinstance(answer, Settled) and isinstance(command, c.Ack) and not answer.problems:
                self.acked |= {job_id for job_id, _, _ in command.results}
        self.open_calls = still_open

    async def check(self) -> None:
        assert replayed(self.world).digest() == self.world.engine.digest()
        for job_id in self.enqueued:
            job = (await self.world.ask(c.GetJob(job_id))).job
            if job_id in self.acked:
                assert job.state == State.SUCCEEDED


class FileLife(Life):
    """The disk fails now and then, too: the node then ends by itself."""

    async def step(self) -> None:
        if self.draw.random() < 0.02:
            disk = self.world.env.disk
            disk.faults[disk.calls + self.draw.randint(1, 20)] = Fault(error_number=errno.EIO)
        await super().step()
        if self.world.failures:
            self.world.failures.clear()
            await self.die()


def _live(seed: int, steps: int, world_type: type[World], life_type: type[Life]) -> None:
    async def story(env: SimNodeEnv) -> None:
        draw = random.Random(seed)
        world = await world_type(env, snapshot_wal_bytes=draw.choice([2_000, 1 << 30])).start()
        life = life_type(world, draw)
        for _ in range(WORKERS):
            await life.connect()
        for _ in range(steps):
            await life.step()
        if life_type is Life:
            assert not world.failures
        await life.die()
        await _finish(world, life)

    run_simulated(story, seed=seed)


async def _finish(world: World, life: Life) -> None:
    """Faults have stopped: every job gets done."""
    worker = world.new_peer()
    await world.ask(world.open_session(99, credit=1_000, lease_ms=3_600_000), worker)
    done = 0
    for _ in range(200):
        await world.pause(1_000)
        jobs = worker.jobs()
        for job, token in jobs[done:]:
            try:
                await world.ask(c.Ack([(job.job_id, token, None)]), worker)
            except HeadraceError as error:
                raise AssertionError(f"{job.job_id.hex()}: {error}") from error
        done = len(jobs)
    states = [(await world.state_of(job_id)).state for job_id in life.enqueued]
    assert set(states) <= {int(state) for state in FINAL_STATES}
    await life.check()
    await world.node.stop(0)


@pytest.mark.parametrize("seed", range(12))
def test_promises_outlive_any_number_of_crashes(seed: int) -> None:
    _live(seed, 150, World, Life)


@pytest.mark.parametrize("seed", range(12))
def test_promises_outlive_torn_writes_and_failing_disks(seed: int) -> None:
    _live(seed, 150, FileWorld, FileLife)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1_000, 1_200))
def test_promises_outlive_crashes_at_length(seed: int) -> None:
    _live(seed, 500, World, Life)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1_000, 1_200))
def test_promises_outlive_failing_disks_at_length(seed: int) -> None:
    _live(seed, 500, FileWorld, FileLife)
