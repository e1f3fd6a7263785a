"""Traces that a whole node made, and their judge: state, not commits, must survive.

The recovered engine must have the digest that the live one had at that index; and no
answer may have left before its index was durable, so every answered command is in it.
"""

from __future__ import annotations

import random
from typing import Any

from headrace.codec.records import decode_records
from headrace.codec.rows import decode_rows
from headrace.engine.engine import Engine
from headrace.log.base import Commit, Epoch
from headrace.log.file.log import FileLog
from headrace.model import commands as c
from headrace.model.job import JobError
from headrace.model.options import EngineOptions
from headrace.runtime.recovery import recover
from headrace.testing.crash_states import Tree, fill
from headrace.testing.recording_disk import RecordingDisk
from headrace.testing.sim_disk import SimDisk
from headrace.testing.sim_env import SimEnv
from headrace.testing.sim_loop import SimNodeEnv, SimThreads, run_simulated
from proof.explorer.judging import Judge, Outcome, require
from proof.explorer.trace import SEGMENT_BYTES, Promise, Trace, promises_of, window
from tests.recovery.story import ROOT
from tests.simulation.harness import CheckingPeer, CountingFileLog, DiskStore, FileWorld

STEPS_MAX = 25
ENGINE = EngineOptions(verify=True)


class TellingLog(CountingFileLog):
    """Remembers each commit, and whether its append has returned."""

    def __init__(self, env: SimNodeEnv, store: DiskStore, told: list[Commit]) -> None:
        super().__init__(env, store)
        self._told = told
        self.pending: Commit | None = None

    def append(self, epoch: Epoch, commit: Commit) -> int:
        self.pending = commit
        index = super().append(epoch, commit)
        self._told.append(commit)
        self.pending = None
        return index


class TellingWorld(FileWorld):
    def __init__(self, env: SimNodeEnv, **options: Any) -> None:
        super().__init__(env, **options)
        self.told: list[Commit] = []
        self.telling: TellingLog | None = None

    def new_log(self) -> TellingLog:
        self.telling = TellingLog(self.env, self.disk_store, self.told)
        return self.telling

    def promise(self) -> Promise:
        pending = self.telling.pending if self.telling else None
        return Promise(len(self.told), pending)


def node_trace(seed: int, calls_max: int) -> Trace:
    disk, draw = RecordingDisk(), random.Random(f"node {seed}")
    worlds: list[TellingWorld] = []

    async def story(env: SimNodeEnv) -> None:
        env.disk = disk
        world = TellingWorld(env, snapshot_wal_bytes=draw.choice((500, 2_000, 1 << 30)))
        disk.note = world.promise
        worlds.append(world)
        await live(world, draw)

    run_simulated(story, seed=seed)
    told = worlds[0].told
    trace = Trace(
        seed=seed,
        name="node",
        base={},
        ops=[step.op for step in disk.steps],
        promises=[*promises_of(disk), worlds[0].promise()],
        begin=0,
        end=len(disk.steps),
        acked=told,
        digests=digests_of(told),
    )
    return window(trace, calls_max, draw)


async def live(world: TellingWorld, draw: random.Random) -> None:
    """Clients enqueue, a worker claims and settles, the node snapshots, stops and starts."""
    await world.start()
    worker = await world.worker()
    settled: set[int] = set()
    for _ in range(draw.randint(5, STEPS_MAX)):
        chance = draw.random()
        if chance < 0.4:
            await world.ask(world.enqueue(*(world.job_id() for _ in range(draw.randint(1, 4)))))
        elif chance < 0.8:
            await settle_one(world, worker, settled, draw)
        elif chance < 0.95:
            await world.pause(draw.choice((1, 50, 1_500)))
        else:
            await world.node.stop(0)
            await world.start()
            worker, settled = await world.worker(2), set()
    await world.node.stop(0)


async def settle_one(
    world: TellingWorld, worker: CheckingPeer, settled: set[int], draw: random.Random
) -> None:
    await world.settle()
    for number, (job, token) in enumerate(worker.jobs()):
        if number not in settled:
            settled.add(number)
            failure = c.Failure(job.job_id, token, JobError("E"))
            command = draw.choice((c.Ack([(job.job_id, token, b"r")]), c.Nack([failure])))
            await world.ask(command, worker)
            return


def digests_of(commits: list[Commit]) -> dict[int, str]:
    """The state after each commit, had nothing ever crashed."""
    engine = Engine(ENGINE)
    digests = {0: engine.digest()}
    for commit in commits:
        replay(engine, commit)
        digests[engine.last_index] = engine.digest()
    return digests


def replay(engine: Engine, commit: Commit) -> None:
    records = decode_records(commit.body, commit.record_count)
    for index, record in enumerate(records, commit.first_index):
        engine.apply(index, record)


class NodeJudge(Judge):
    def __init__(self, acked: list[Commit], digests: dict[int, str]) -> None:
        super().__init__(acked)
        self._digests = digests

    def _inspect(self, outcome: Outcome, tree: Tree) -> None:
        engine = Engine(ENGINE)
        if outcome.snapshot_index:
            for block in outcome.blocks:
                engine.load_rows(decode_rows(block))
            engine.finish_load()
        for commit in outcome.commits:
            replay(engine, commit)
        digest = self._digests.get(engine.last_index)
        require(engine.digest() == digest, f"another state at index {engine.last_index}")
        start_node(tree, engine.last_index)


class _Env(SimEnv):
    threads = SimThreads(0)


def start_node(tree: Tree, last_index: int) -> None:
    """What a node itself does first."""
    disk = SimDisk()
    fill(disk, tree)
    env = _Env(disk=disk)
    log = FileLog(env, ROOT, segment_bytes=SEGMENT_BYTES)
    recovered = recover(env, log, "explorer", ENGINE, tune_gc=False)
    require(recovered.engine.last_index == last_index + 1, "the node starts elsewhere")
    log.close()
