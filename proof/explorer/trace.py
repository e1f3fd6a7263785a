"""A trace: the calls of one seeded workload, and what had been promised before each."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from headrace.log.base import Commit
from headrace.testing.crash_states import CrashStates, Op, Tree
from headrace.testing.recording_disk import RecordingDisk
from headrace.testing.sim_env import SimEnv
from tests.recovery.story import Story, blocks_of

SEGMENT_BYTES = 8 * 1024
"""Small, so that a trace of a few calls may cross into the next one."""

Mend = Callable[[SimEnv], object]
"""A repair on an operator's word."""


class Promise(msgspec.Struct, frozen=True):
    """What must survive a crash at this moment."""

    acked: int
    """Commits whose append has returned."""
    pending: Commit | None = None
    """Asked for and not answered: it may be there."""
    snapshot_index: int = 0
    """The newest whose publication has returned."""
    epoch_number: int = 0
    """The newest in which the log has been led."""
    copied: bool = False
    """A backup of all this has been reported as done."""


class Trace(msgspec.Struct):
    """`ops[begin:end]` is what is explored; those before led there."""

    seed: int
    name: str
    base: Tree
    ops: list[Op]
    promises: list[Promise]
    """Before each call; one more for the end."""
    begin: int
    end: int
    acked: list[Commit]
    digests: dict[int, str] = {}
    """Of the engine's state after each index, when a node wrote the log."""
    mend: Mend | None = None
    """May be needed, and repeated, before the log starts."""

    def states_before(self, prefix: int) -> CrashStates:
        """The disk when a crash comes before call `prefix`."""
        states = CrashStates(self.base)
        for op in self.ops[:prefix]:
            states.apply(op)
        return states


class Teller(Story):
    """A story on a disk that records, which knows what it has promised."""

    def __init__(self, seed: int, tree: Tree | None = None) -> None:
        super().__init__(seed, segment_bytes=SEGMENT_BYTES)
        self.seed = seed
        self.rng = random.Random(f"teller {seed}")
        self.recording = RecordingDisk(tree)
        self.recording.note = self.promise
        self.env.disk = self.recording
        self.log = self.new_log()
        self.published = 0
        self.copied = False

    def promise(self) -> Promise:
        return Promise(
            acked=len(self.acked),
            pending=self.pending,
            snapshot_index=self.published,
            epoch_number=self.epoch.number,
            copied=self.copied,
        )

    def snapshot(self) -> Teller:
        """Blocks are written while commits go on."""
        index = self.last_index
        writer = self.log.begin_snapshot(self.epoch, index)
        for block in blocks_of(index):
            writer.write(block)
            if self.rng.random() < 0.3:
                self.append()
        writer.publish()
        self.published = index
        return self

    def trace(self, name: str, base: Tree, begin: int, calls_max: int) -> Trace:
        """Of what happened since call `begin`, at most `calls_max` calls in a row."""
        return window(
            Trace(
                seed=self.seed,
                name=name,
                base=base,
                ops=[step.op for step in self.recording.steps],
                promises=[*promises_of(self.recording), self.promise()],
                begin=begin,
                end=len(self.recording.steps),
                acked=self.acked,
            ),
            calls_max,
            self.rng,
        )


def promises_of(disk: RecordingDisk) -> list[Promise]:
    return [step.note for step in disk.steps if isinstance(step.note, Promise)]


def window(trace: Trace, calls_max: int, draw: random.Random) -> Trace:
    """`trace`, of which at most `calls_max` calls in a row are explored."""
    trace.begin += draw.randint(0, max(trace.end - trace.begin - calls_max, 0))
    trace.end = min(trace.begin + calls_max, trace.end)
    return trace
