"""A whole node under one fault: what its clients were told is true after the next start.

Enqueue, claim, ack, nack, snapshot and stop, on files of a simulated disk. An answer is a
promise; `refused` means that it did not happen; everything else may be either.
"""

from __future__ import annotations

import asyncio
import random

from headrace.model import commands as c
from headrace.model.errors import HeadraceError, UnknownJob
from headrace.model.job import JobError, State
from headrace.testing.sim_disk import SimCrash
from headrace.testing.sim_loop import SimNodeEnv, run_simulated
from proof.n_loop.faults import Kind, heal
from proof.n_loop.log_loop import temporaries
from proof.n_loop.log_workloads import require
from tests.simulation.harness import FileWorld, replayed

PATIENCE_S = 3.0
"""Simulated; after so long the disk is well again, and what waited for it goes on."""
NAME = "node"


class Life:
    """What a node's clients asked, and what they were told."""

    def __init__(self, world: FileWorld) -> None:
        self.world = world
        self.enqueued: set[bytes] = set()
        self.refused: set[bytes] = set()
        self.acked: set[bytes] = set()
        self.told: list[str] = []

    async def run(self) -> None:
        """Ends early when the node does."""
        await self.world.start()
        worker = await self.world.worker(credit=1)
        for _ in range(2):
            await self.enqueue()
        job, token = await worker.job(1)
        await self.world.ask(c.Ack([(job.job_id, token, b"r")]), worker)
        self.acked.add(job.job_id)
        job, token = await worker.job(2)
        await self.world.ask(c.Nack([c.Failure(job.job_id, token, JobError("E"))]), worker)
        await self.world.pause(100)
        await self.enqueue()
        await self.world.pause(1_100)
        await self.world.node.stop(0)

    async def enqueue(self) -> None:
        job_id = self.world.job_id()
        try:
            await self.world.ask(self.world.enqueue(job_id))
        except HeadraceError as error:
            if error.outcome == "refused":
                self.refused.add(job_id)
            raise
        self.enqueued.add(job_id)

    async def check(self) -> None:
        """Of a node that has just started."""
        require(replayed(self.world).digest() == self.world.engine.digest(), "another state")
        for job_id in self.enqueued:
            state = (await self.world.state_of(job_id)).state
            require(job_id not in self.acked or state == State.SUCCEEDED, "an ack is lost")
        for job_id in self.refused:
            require(not await self.exists(job_id), "what was refused has happened")

    async def exists(self, job_id: bytes) -> bool:
        try:
            await self.world.state_of(job_id)
        except UnknownJob:
            return False
        return True


def calls_of_node() -> list[str]:
    async def story(env: SimNodeEnv) -> list[str]:
        await Life(new_world(env)).run()
        return [method for method, _ in env.disk.trace]

    return run_simulated(story)


def new_world(env: SimNodeEnv) -> FileWorld:
    return FileWorld(env, snapshot_wal_bytes=200)


def endure_node(kind: Kind, number: int) -> str:
    """What befell the node. Raises: `Broken`, or what a start raises."""

    async def story(env: SimNodeEnv) -> str:
        life = Life(new_world(env))
        kind.plan(env.disk, number)
        healing = env.loop.call_later(PATIENCE_S, heal, env.disk)
        told = await live(life)
        healing.cancel()
        heal(env.disk)
        await end(life, kind, number)
        await start_again(life)
        return told

    return run_simulated(story, seed=number)


async def live(life: Life) -> str:
    try:
        async with asyncio.timeout(10 * PATIENCE_S):
            await life.run()
    except SimCrash:
        return "stopped"
    except HeadraceError as error:
        return type(error).__name__
    return "passed"


async def end(life: Life, kind: Kind, number: int) -> None:
    world, disk = life.world, life.world.env.disk
    for failure in world.failures:
        fine = isinstance(failure, HeadraceError | SimCrash)
        require(fine, f"the node failed with a bare {type(failure).__name__}: {failure}")
    if kind.dies:
        for thread in world.env.threads.by_name.values():
            thread.hold()
        if kind.dies == "machine":
            disk.crash(random.Random(number))
        else:
            disk.kill_process()
        return
    await world.node.stop(0)
    require(disk.open_count == 0, f"{disk.open_count} descriptors are still open")
    world.failures.clear()


async def start_again(life: Life) -> None:
    await life.world.start()
    left = temporaries(life.world.env.disk)
    require(not left, f"left over after a start: {left}")
    await life.check()
    await life.enqueue()
    await life.world.node.stop(0)
    require(life.world.env.disk.open_count == 0, "a stopped node has no descriptor")
