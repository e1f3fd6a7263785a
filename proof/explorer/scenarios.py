"""Workloads of the file log: what each seed does before, and during, the calls explored."""

from __future__ import annotations

import random
from collections.abc import Callable

from headrace.log.base import Epoch
from headrace.log.file.backup import copy_consistent
from headrace.log.file.repair import rebuild_current, truncate_at
from headrace.model.errors import StopError
from headrace.testing.crash_states import Choice, CrashStates, Tree, random_choice
from headrace.testing.sim_env import SimEnv
from proof.explorer.trace import SEGMENT_BYTES, Mend, Promise, Teller, Trace
from tests.recovery.story import ROOT

COPY = "/copy"
IDLE_MS = 1_500
DOOMED = b"to be cut"
Scenario = Callable[[int, int], Trace]


def record(name: str, seed: int, calls_max: int) -> Trace:
    return SCENARIOS[name](seed, calls_max)


def lived(seed: int, steps_max: int = 12) -> Teller:
    """A log with some past: commits, rotations, snapshots, truncations, restarts."""
    teller = Teller(seed)
    teller.start()
    for _ in range(teller.rng.randint(1, steps_max)):
        do_something(teller)
    return teller


def do_something(teller: Teller) -> None:
    chance = teller.rng.random()
    if chance < 0.75:
        teller.append()
    elif chance < 0.85:
        teller.snapshot()
    elif chance < 0.90:
        teller.truncate()
    elif chance < 0.95:
        idle(teller)
    else:
        teller.close().start()


def idle(teller: Teller) -> None:
    teller.env.clock.advance_ms(IDLE_MS)
    teller.log.idle()


def idle_twice(teller: Teller) -> None:
    idle(teller)
    teller.append()
    idle(teller)


def rotate(teller: Teller) -> None:
    """Commits until the log is in its next segment, and one more."""
    before = len(teller.segments())
    while len(teller.segments()) == before:
        teller.append(1, teller.rng.randbytes(3000))
    teller.append()


def append_large(teller: Teller) -> None:
    """A commit that no segment of the usual size could hold, and one after it."""
    teller.append(1, teller.rng.randbytes(2 * SEGMENT_BYTES + teller.rng.randrange(4096)))
    teller.append()


def with_snapshots(teller: Teller) -> Teller:
    """Two snapshots, and segments that nobody needs any more."""
    for _ in range(2):
        rotate(teller)
        teller.snapshot()
    teller.append()
    return teller


def recorded(name: str, act: Callable[[Teller], object]) -> Scenario:
    def scenario(seed: int, calls_max: int) -> Trace:
        teller = lived(seed)
        begin = len(teller.recording.steps)
        act(teller)
        return teller.trace(name, {}, begin, calls_max)

    return scenario


def birth(seed: int, calls_max: int) -> Trace:
    teller = Teller(seed)
    teller.start()
    teller.append(2)
    return teller.trace("birth", {}, 0, calls_max)


def truncation(seed: int, calls_max: int) -> Trace:
    teller = with_snapshots(lived(seed))
    begin = len(teller.recording.steps)
    teller.truncate()
    teller.append()
    idle(teller)
    return teller.trace("truncation", {}, begin, calls_max)


def recovery(seed: int, calls_max: int) -> Trace:
    """The start after a crash, out of any state that a crash leaves."""
    teller, tree = crashed(seed)
    teller.start()
    teller.append()
    return teller.trace("recovery", tree, 0, calls_max)


def crashed(seed: int) -> tuple[Teller, Tree]:
    """A log that a crash has stopped at any of its calls, and what is on its disk."""
    before = lived(seed)
    for _ in range(3):
        do_something(before)
    steps = before.recording.steps
    at = before.rng.randrange(len(steps) // 2, len(steps))
    states = CrashStates()
    for step in steps[:at]:
        states.apply(step.op)
    tree = states.tree(random_choice(states.units(), before.rng))
    promise = steps[at].note
    assert isinstance(promise, Promise)
    return born_again(before, seed, tree, promise), tree


def born_again(before: Teller, seed: int, tree: Tree, promise: Promise) -> Teller:
    """The next life of a log, with the promises of the last."""
    teller = Teller(seed, tree)
    teller.rng = random.Random(f"next life {seed}")  # commit ids are unique for ever
    teller.acked = before.acked[: promise.acked]
    teller.pending = promise.pending
    teller.published = promise.snapshot_index
    teller.epoch = Epoch(promise.epoch_number, b"")
    return teller


def backup(seed: int, calls_max: int) -> Trace:
    """A copy is made while the leader has just written."""
    teller = lived(seed)
    begin = len(teller.recording.steps)
    copy_consistent(teller.env, ROOT, COPY)
    teller.copied = True
    return teller.trace("backup", {}, begin, calls_max)


def repair_by_truncation(seed: int, calls_max: int) -> Trace:
    """A commit in the middle is damaged: everything from there on is given up."""
    before = lived(seed)
    before.append(6, DOOMED)
    while before.disk.peek(before.segments()[-1]).count(DOOMED) < 2:
        before.append(1, DOOMED)  # damage to the very last commit would be a torn tail
    path = before.segments()[-1]
    content = bytearray(before.disk.peek(path))
    content[content.index(DOOMED)] ^= 1
    base = tree_of(before) | {path: bytes(content)}
    segment, offset = path.rpartition("/")[2], damaged_offset(base)

    def mend(env: SimEnv) -> object:
        return truncate_at(env, ROOT, segment, offset)

    last_index = truncate_at(Teller(seed, base).env, ROOT, segment, offset, dry_run=True).last_index
    teller = born_again(before, seed, base, before.promise())
    teller.acked = [commit for commit in before.acked if commit.first_index <= last_index]
    return mended(teller, "repair --truncate-at", base, calls_max, mend)


def damaged_offset(tree: Tree) -> int:
    log = Teller(0, tree).log
    try:
        log.open()
    except StopError as error:
        return int(error.details["offset"])
    raise AssertionError("damage in the middle of a log stops it")


def repair_of_current(seed: int, calls_max: int) -> Trace:
    """CURRENT is damaged, and made again from what is there."""
    before = lived(seed)
    base = tree_of(before) | {f"{ROOT}/meta/CURRENT": b"rot"}

    def mend(env: SimEnv) -> object:
        return rebuild_current(env, ROOT)

    teller = born_again(before, seed, base, before.promise())
    teller.epoch = Epoch(0, b"")  # one that has written nothing was known to CURRENT alone
    return mended(teller, "repair --rebuild-current", base, calls_max, mend)


def mended(teller: Teller, name: str, base: Tree, calls_max: int, mend: Mend) -> Trace:
    mend(teller.env)
    trace = teller.trace(name, base, 0, calls_max)
    trace.mend = mend
    return trace


def tree_of(teller: Teller) -> Tree:
    """What a reader sees: all of it reached the medium."""
    states = CrashStates()
    for step in teller.recording.steps:
        states.apply(step.op)
    return states.tree(Choice(tuple(range(len(states.units())))))


def mixed(teller: Teller) -> None:
    for _ in range(12):
        do_something(teller)


SCENARIOS: dict[str, Scenario] = {
    "birth": birth,
    "appends": recorded("appends", lambda teller: teller.append(8)),
    "large commit": recorded("large commit", append_large),
    "rotation": recorded("rotation", rotate),
    "idle": recorded("idle", idle_twice),
    "snapshot": recorded("snapshot", lambda teller: teller.append().snapshot()),
    "truncation": truncation,
    "restart": recorded("restart", lambda teller: teller.close().start().append()),
    "kill": recorded("kill", lambda teller: teller.kill().start().append()),
    "recovery": recovery,
    "backup": backup,
    "repair --truncate-at": repair_by_truncation,
    "repair --rebuild-current": repair_of_current,
    "mixed": recorded("mixed", mixed),
}
