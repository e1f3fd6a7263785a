"""One life from beginning to end: lived, judged, and if need be made short and told."""

from __future__ import annotations

import asyncio
import hashlib
import random

import msgspec

from headrace.model.commands import Command
from headrace.model.errors import HeadraceError
from headrace.sim.actors import Asker
from headrace.sim.checkers import check_all
from headrace.sim.ending import ended
from headrace.sim.faults import FAULTS
from headrace.sim.final import Final
from headrace.sim.history import History, Recorded
from headrace.sim.outcome import Outcome
from headrace.sim.plan import Plan, Step, plan_of
from headrace.sim.shrink import as_ranges, shrunk
from headrace.sim.transcript import Transcript
from headrace.sim.verbs import ALWAYS_ASKED, VERBS
from headrace.sim.world import World
from headrace.testing.sim_disk import SimCrash
from headrace.testing.sim_loop import SimLoop
from headrace.testing.sim_process import ProcessKilled

TOLD_LINES_MAX = 120
COMPARE_PROBABILITY = 0.05
_ENCODER = msgspec.msgpack.Encoder()
BREAKING = {name: fault for members in FAULTS.values() for name, fault in members.items()}


def plan_for(seed: int, operations: int) -> Plan:
    """The life of this seed, as it is going to be."""
    verbs = {name: verb.weight for name, verb in VERBS.items()}
    faults = {
        name: {fault: one.weight for fault, one in members.items()}
        for name, members in FAULTS.items()
    }
    return plan_of(seed, operations, verbs, faults)


def live(seed: int, operations: int) -> Outcome:
    return live_plan(plan_for(seed, operations))


def live_plan(plan: Plan) -> Outcome:
    return lived_of(plan).outcome


def shrunk_life(plan: Plan, outcome: Outcome) -> tuple[Plan, Outcome, list[str]]:
    """The shortest life found in which the same checker complains, and its story."""
    checker = _checker_of(outcome)

    def fails(shorter: Plan) -> bool:
        return _checker_of(live_plan(shorter)) == checker

    short = shrunk(plan, fails)
    lived = lived_of(short)
    return short, lived.outcome, story_of(lived)


def command_of(plan: Plan, operations: int) -> str:
    """What a reader types to see this life again."""
    command = f"headrace sim --seed {plan.conditions.seed} --operations {operations}"
    numbers = [step.number for step in plan.steps]
    if numbers == list(range(len(plan_for(plan.conditions.seed, operations).steps))):
        return command
    return f"{command} --only {as_ranges(numbers)}"


def transcript_of(lived: Lived) -> list[str]:
    """All of it."""
    return Transcript(lived.history).lines()


def story_of(lived: Lived) -> list[str]:
    """At most so much of it as somebody reads, of what broke when it is too much."""
    lines = transcript_of(lived)
    if len(lines) > TOLD_LINES_MAX and lived.about:
        lines = Transcript(lived.history).lines(lived.about)
    skipped = len(lines) - TOLD_LINES_MAX
    return lines if skipped <= 0 else [f"({skipped} lines before)", *lines[-TOLD_LINES_MAX:]]


def _checker_of(outcome: Outcome) -> str:
    return outcome.violations[0].partition(":")[0] if outcome.violations else ""


class Lived(msgspec.Struct):
    """A life that is over."""

    history: History
    outcome: Outcome
    about: bytes
    """The job that the first violation is about; `` when it is about none."""


def lived_of(plan: Plan) -> Lived:
    """The whole of it, on a loop of its own. Raises nothing that the simulator fails with."""
    loop = SimLoop()
    world = World(loop, plan.conditions)
    try:
        final = loop.run_until_complete(_drive(world, plan))
        return _judged(world, plan, final)
    except (Exception, SimCrash) as error:
        return _broken_down(world, plan, error)
    finally:
        world.hosting.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        world.hosting.forget()


def _broken_down(world: World, plan: Plan, error: BaseException) -> Lived:
    """A simulator that fails is a failure of this life alone, and leaves what it has seen."""
    said = f"Simulator: {type(error).__name__}: {error}"
    outcome = Outcome(seed=plan.conditions.seed, operations=0, violations=[said])
    return Lived(world.history, outcome, b"")


async def _drive(world: World, plan: Plan) -> Final:
    """The steps, one after another; then the end."""
    world.begin()
    for step in plan.steps:
        await asyncio.sleep(step.pause_ms / 1_000)
        _take(world, step)
    return await ended(world)


def _take(world: World, step: Step) -> None:
    dice = random.Random(step.seed)
    if step.verb in BREAKING:
        world.note(step.verb)
        BREAKING[step.verb].begin(world, dice)
        return
    world.ask(*_drawn(world, step.verb, dice))
    if world.conditions.thorough or dice.random() < COMPARE_PROBABILITY:
        world.compare_live()


def _drawn(world: World, name: str, dice: random.Random) -> tuple[Asker, Command]:
    """Who asks what: as the verb says, of all who live; when none of them can, another verb."""
    alive = [asker for asker in world.askers if world.processes[asker.name].alive]
    askers = alive or world.askers
    for verb in (VERBS[name], VERBS[dice.choice(ALWAYS_ASKED)]):
        for asker in dice.sample(askers, len(askers)):
            if not verb.by_session or asker.session_id:
                command = verb.build(asker, dice)
                if command is not None:
                    return asker, command
    raise AssertionError(f"{name}: there is always something to ask instead")


def _judged(world: World, plan: Plan, final: Final) -> Lived:
    final.checkups = world.checkups
    judgement = check_all(world.history, final)
    found = judgement.violations
    broken = [*world.faults, *world.observer.faults, *_unhandled(world), *map(str, found)]
    counts = dict(world.counts)
    counts["calls"] = len(world.history.calls)
    counts["records"] = world.observer.last_index
    counts["snapshots compared"] = world.observer.snapshots_compared
    counts["jobs linearized"] = judgement.jobs - judgement.undecided
    counts["jobs undecided"] = judgement.undecided
    counts["simulated ms"] = int((world.loop.time() - world.began_s) * 1_000)
    askers = set(world.asker_names)
    outcome = Outcome(
        seed=plan.conditions.seed,
        operations=sum(call.actor in askers for call in world.history.calls),
        violations=broken,
        counts=counts,
        fingerprint=_fingerprint(world.history),
    )
    return Lived(world.history, outcome, found[0].job_id if found else b"")


def _unhandled(world: World) -> list[str]:
    """Exceptions that no code of any process took care of, or that ended one."""
    machines = dict.fromkeys((world.machine, world.others))
    found = [(name, context.get("exception")) for one in machines for name, context in one.errors]
    ended = [process for one in machines for process in one.processes if process.failure]
    found += [
        (process.name, process.failure)
        for process in ended
        if not isinstance(process.failure, HeadraceError | ProcessKilled | SimCrash)
    ]
    return [f"unhandled: {name}: {error!r}" for name, error in found]


def _fingerprint(history: History) -> str:
    """Of every call, every record and their times."""
    digest = hashlib.blake2b(digest_size=8)
    for call in history.calls:
        code = call.error.code if call.error is not None else ""
        told = (call.actor, call.called_ns, call.returned_ns, call.command, call.reply, code)
        digest.update(_ENCODER.encode(told))
    for event in history.events:
        digest.update(_ENCODER.encode((event.at_ns, type(event).__name__)))
        if isinstance(event, Recorded):
            digest.update(_ENCODER.encode(event.record))
    return digest.hexdigest()
