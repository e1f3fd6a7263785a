"""Judging a state: the real recovery runs on it, and must keep every promise.

What recovery makes of a tree depends on the tree alone, so it is found out once
(`Outcome`); whether that is enough depends on what had been promised before the crash.
"""

from __future__ import annotations

import random

import msgspec

from headrace.log.base import Commit, Epoch
from headrace.log.file.log import FileLog
from headrace.log.file.verify import Severity, verify
from headrace.model.errors import CurrentDamaged, HeadraceError, StopError, UnsafeDirectory
from headrace.testing.crash_states import CrashStates, Tree, fill, random_choice
from headrace.testing.recording_disk import RecordingDisk
from headrace.testing.sim_disk import SimDisk
from headrace.testing.sim_env import SimEnv
from proof.explorer.scenarios import COPY
from proof.explorer.trace import SEGMENT_BYTES, Mend, Promise
from tests.recovery.story import ROOT, blocks_of

CRASHES_IN_RECOVERY = 3
"""Of each recovery that is itself crashed."""
APPENDED = 2


class Broken(Exception):
    """What recovery did is not what was promised."""


class Outcome(msgspec.Struct, frozen=True):
    problem: str = ""
    snapshot_index: int = 0
    blocks: tuple[bytes, ...] = ()
    """Of the snapshot."""
    commits: tuple[Commit, ...] = ()
    """After it."""
    refused: bool = False
    """Of a copy that was interrupted: nobody takes it for a log."""


class Judge:
    def __init__(self, acked: list[Commit], mend: Mend | None = None) -> None:
        self._acked = acked
        self._mend = mend
        self.crashes_in_recovery = 0

    def outcome(self, tree: Tree, draw: random.Random, *, deep: bool) -> Outcome:
        """Of recovering this tree; `deep`: also when recovery itself is cut off."""
        try:
            return self._recover(tree, draw, deep)
        except (Broken, HeadraceError, OSError, AssertionError) as error:
            return Outcome(problem=f"{type(error).__name__}: {error}")

    def against(self, outcome: Outcome, promise: Promise) -> str:
        """What of the promise is not kept; empty when all is."""
        if outcome.problem:
            return outcome.problem
        if outcome.snapshot_index < promise.snapshot_index:
            return f"snapshot {promise.snapshot_index} is gone, {outcome.snapshot_index} is there"
        promised = self._after(outcome.snapshot_index, promise)
        if list(outcome.commits) == promised:
            return ""
        if promise.pending is not None and list(outcome.commits) == [*promised, promise.pending]:
            return ""
        return (
            f"{len(outcome.commits)} commits after snapshot {outcome.snapshot_index} "
            f"where {len(promised)} were promised"
        )

    def _after(self, index: int, promise: Promise) -> list[Commit]:
        return [commit for commit in self._acked[: promise.acked] if commit.first_index > index]

    def _recover(self, tree: Tree, draw: random.Random, deep: bool) -> Outcome:
        disk = SimDisk()
        fill(disk, tree)
        env = SimEnv(disk=disk)
        outcome = self._first_look(env)
        self._inspect(outcome, tree)
        if deep:
            self._crash_in_recovery(tree, outcome, draw)
        disk.crash(random.Random(0))
        go_on(env, outcome)
        return outcome

    def _first_look(self, env: SimEnv) -> Outcome:
        if self._mend is None:
            return self._look(env)
        try:
            return self._look(env)
        except StopError:
            env.disk.kill_process()
            self._mend(env)
            return self._look(env)

    def _look(self, env: SimEnv) -> Outcome:
        return look(env)[2]

    def _inspect(self, outcome: Outcome, tree: Tree) -> None:
        """What else must be true of what was just recovered from `tree`."""
        index = outcome.snapshot_index
        whole = index == 0 or list(outcome.blocks) == blocks_of(index)
        require(whole, f"snapshot {index} has other blocks")

    def _crash_in_recovery(self, tree: Tree, outcome: Outcome, draw: random.Random) -> None:
        disk = RecordingDisk(tree)
        self._first_look(SimEnv(disk=disk))
        ops = [step.op for step in disk.steps]
        for _ in range(CRASHES_IN_RECOVERY):
            states = CrashStates(tree)
            prefix = draw.randint(0, len(ops))
            for op in ops[:prefix]:
                states.apply(op)
            again = SimDisk()
            fill(again, states.tree(random_choice(states.units(), draw)))
            self.crashes_in_recovery += 1
            found = self._first_look(SimEnv(disk=again))
            require(found == outcome, f"crash at call {prefix} of recovery changes what is found")


def look(env: SimEnv, root: str = ROOT) -> tuple[FileLog, Epoch, Outcome]:
    """A start: open, lead, recover, all of it read."""
    log = FileLog(env, root, segment_bytes=SEGMENT_BYTES)
    log.open()
    epoch = log.lead("explorer")
    snapshot, commits = log.recover()
    return (
        log,
        epoch,
        Outcome(
            snapshot_index=snapshot.info.index if snapshot else 0,
            blocks=tuple(snapshot.blocks()) if snapshot else (),
            commits=tuple(commits),
        ),
    )


def go_on(env: SimEnv, outcome: Outcome, root: str = ROOT) -> None:
    """A second start finds the same; the log takes commits, closes, is without fault, and
    has them after all."""
    log, epoch, found = look(env, root)
    require(found == outcome, "a second recovery gives something else")
    more = list(outcome.commits)
    for number in range(APPENDED):
        commit = next_commit(more[-1] if more else None, outcome.snapshot_index, number)
        log.append(epoch, commit)
        more.append(commit)
    log.close()
    for finding in verify(env, root):
        fine = finding.severity is Severity.NOTE
        require(fine, f"verify: {finding.severity.value}: {finding.path}: {finding.message}")
    env.disk.crash(random.Random(0))
    found = look(env, root)[2]
    require(list(found.commits) == more, "what was appended after recovery is not there")


def next_commit(last: Commit | None, index: int, number: int) -> Commit:
    first_index = last.first_index + last.record_count if last else index + 1
    return Commit(bytes([255, number] * 8), first_index, 1, 78, b"after recovery")


class CopyJudge(Judge):
    """Judges what is in the place of a backup while, and after, it is made."""

    def _recover(self, tree: Tree, draw: random.Random, deep: bool) -> Outcome:
        source = super()._recover(tree, draw, deep)
        disk = SimDisk()
        fill(disk, tree)
        env = SimEnv(disk=disk)
        if tree.get(f"{COPY}/meta/CURRENT") is None:
            return msgspec.structs.replace(source, refused=refuses(env))
        go_on(env, source, COPY)
        return source

    def against(self, outcome: Outcome, promise: Promise) -> str:
        if promise.copied and outcome.refused:
            return "the backup that was reported as done has no CURRENT"
        return super().against(outcome, promise)


def refuses(env: SimEnv) -> bool:
    """Nothing there can be read as a log."""
    try:
        FileLog(env, COPY, segment_bytes=SEGMENT_BYTES).open(read_only=True)
    except (UnsafeDirectory, CurrentDamaged):
        return True
    raise Broken("a copy without CURRENT was read as a log")


def require(fine: bool, what: str) -> None:
    if not fine:
        raise Broken(what)
