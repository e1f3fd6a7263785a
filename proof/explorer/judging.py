"""Judging a state: the real recovery runs on it, and must keep every promise.

What recovery makes of a tree depends on the tree alone, so it is found out once
(`Outcome`); whether that is enough depends on what had been promised before the crash.
"""

from __future__ import annotations

import random

import msgspec

from headrace.log.base import Commit, Epoch, LogInfo
from headrace.log.file.backup import copy_consistent
from headrace.log.file.inspect import survey
from headrace.log.file.layout import Layout
from headrace.log.file.log import FileLog
from headrace.log.file.verify import Severity, verify
from headrace.model.errors import CurrentDamaged, HeadraceError, StopError, UnsafeDirectory
from headrace.model.limits import SNAPSHOTS_KEPT
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
TWIN = "/twin"


class Broken(Exception):
    """What recovery did is not what was promised."""


class Outcome(msgspec.Struct, frozen=True):
    problem: str = ""
    snapshot_index: int = 0
    blocks: tuple[bytes, ...] = ()
    """Of the snapshot."""
    commits: tuple[Commit, ...] = ()
    """After it."""
    epoch_number: int = 0
    """In which the log was led then."""
    refused: bool = False
    """Of a copy that was interrupted: nobody takes it for a log."""

    def is_like(self, other: Outcome) -> bool:
        """The same was found, in whatever epoch."""
        return msgspec.structs.replace(self, epoch_number=other.epoch_number) == other

    @property
    def last_index(self) -> int:
        last = self.commits[-1] if self.commits else None
        return last.first_index + last.record_count - 1 if last else self.snapshot_index


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
        if outcome.epoch_number <= promise.epoch_number:
            return f"epoch {outcome.epoch_number} is given out again"
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
        env = env_with(tree)
        start = self._first_look(env)
        outcome = start.outcome
        self._inspect(outcome, tree)
        if deep:
            self._crash_in_recovery(tree, outcome, draw)
            self._recover_without(start, tree)
        if deep and self._mend is None:
            read_only(tree, outcome)
        env.disk.crash(random.Random(0))
        go_on(env, start)
        return outcome

    def _first_look(self, env: SimEnv) -> Start:
        if self._mend is None:
            return look(env)
        try:
            return look(env)
        except StopError:
            env.disk.kill_process()
            self._mend(env)
            return look(env)

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
            self.crashes_in_recovery += 1
            again = env_with(states.tree(random_choice(states.units(), draw)))
            found = self._first_look(again).outcome
            require(
                found.is_like(outcome), f"crash at call {prefix} of recovery changes what is found"
            )

    def _recover_without(self, start: Start, tree: Tree) -> None:
        """The newest snapshot has rotted since: the one before it, or none, leads as far."""
        snapshots = start.log.snapshots()
        if not snapshots or (len(snapshots) < SNAPSHOTS_KEPT and start.info.first_index > 1):
            return
        newest = snapshots[-1]
        if not newest.index:
            return  # of nothing: without it the same is found
        path = Layout(ROOT).snapshot(newest.index, newest.epoch_number)
        content = tree.get(path)
        if content is None:
            return  # a repair put it there
        rotten = content[:-1] + bytes([content[-1] ^ 1])
        found = self._first_look(env_with(tree | {path: rotten})).outcome
        self._inspect(found, tree)
        require(found.snapshot_index < newest.index, "a rotten snapshot is used")
        require(found.last_index == start.outcome.last_index, "without a snapshot the end is lost")


def env_with(tree: Tree) -> SimEnv:
    disk = SimDisk()
    fill(disk, tree)
    return SimEnv(disk=disk)


class Start(msgspec.Struct):
    """A log that leads, and what it had kept."""

    log: FileLog
    info: LogInfo
    epoch: Epoch
    outcome: Outcome


def look(env: SimEnv, root: str = ROOT) -> Start:
    """A start: open, lead, recover, all of it read."""
    log = FileLog(env, root, segment_bytes=SEGMENT_BYTES)
    info = log.open()
    epoch = log.lead("explorer")
    snapshot, commits = log.recover()
    outcome = Outcome(
        snapshot_index=snapshot.info.index if snapshot else 0,
        blocks=tuple(snapshot.blocks()) if snapshot else (),
        commits=tuple(commits),
        epoch_number=epoch.number,
    )
    require(info.last_index == outcome.last_index, f"open found index {info.last_index}")
    return Start(log, info, epoch, outcome)


def go_on(env: SimEnv, before: Start, root: str = ROOT) -> None:
    """A second start finds the same; the log takes commits, closes, is without fault, and
    has them after all."""
    start = look(env, root)
    require(start.outcome.is_like(before.outcome), "a second recovery gives something else")
    require(start.epoch.number > before.epoch.number, "an epoch was given out twice")
    more = list(before.outcome.commits)
    if more:
        start.log.append(start.epoch, more[-1])  # repeated: it is known, and harmless
    for number in range(APPENDED):
        last_index = before.outcome.last_index + number
        commit = Commit(bytes([255, number] * 8), last_index + 1, 1, 78, b"after recovery")
        start.log.append(start.epoch, commit)
        more.append(commit)
    start.log.close()
    require_clean(env, root)
    env.disk.crash(random.Random(0))
    again = look(env, root)
    require(list(again.outcome.commits) == more, "what was appended after recovery is not there")
    followed = list(again.log.tail(again.info.first_index))
    require(followed[len(followed) - len(more) :] == more, "who follows the log sees another")


def require_clean(env: SimEnv, root: str) -> None:
    for finding in verify(env, root):
        fine = finding.severity is Severity.NOTE
        require(fine, f"verify: {finding.severity.value}: {finding.path}: {finding.message}")


def read_only(tree: Tree, outcome: Outcome) -> None:
    """What operators do with a directory that crashed, before anybody starts on it."""
    env = env_with(tree)
    if env.disk.stat(Layout(ROOT).current) is None:
        return  # it crashed while it was made
    for finding in verify(env, ROOT):
        require(finding.severity is not Severity.ERROR, f"verify: {finding.message}")
    facts = survey(env, ROOT)
    require(not facts.problem, f"survey: {facts.problem}")
    require(facts.last_index == outcome.last_index, "the survey sees another end")
    copy_consistent(env, ROOT, TWIN)
    require(
        look(env, TWIN).outcome.is_like(outcome), "a backup of what crashed holds something else"
    )


class CopyJudge(Judge):
    """Judges what is in the place of a backup while, and after, it is made."""

    def _recover(self, tree: Tree, draw: random.Random, deep: bool) -> Outcome:
        source = super()._recover(tree, draw, deep)
        env = env_with(tree)
        if tree.get(f"{COPY}/meta/CURRENT") is None:
            return msgspec.structs.replace(source, refused=refuses(env))
        copied = look(env, COPY)
        require(copied.outcome.is_like(source), "the copy holds something else than the log")
        env.disk.kill_process()
        go_on(env, copied, COPY)
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
