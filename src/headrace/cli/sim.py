"""`headrace sim`: lives of a simulated server, its clients and workers; and what broke in them.

The code that runs is that of production. A life that goes wrong is made short, told in a
few lines, and can be run again by its seed.
"""

from __future__ import annotations

import random
from typing import Any

import msgspec

from headrace.cli.application import noun
from headrace.cli.exits import FAILED, OK, UsageFault
from headrace.cli.options import COMMON, Common
from headrace.cli.output import print_facts, print_json, print_line, progress
from headrace.cli.times import duration_option
from headrace.sim.campaign import campaign
from headrace.sim.life import (
    command_of,
    lived_of,
    plan_for,
    shrunk_life,
    story_of,
    transcript_of,
)
from headrace.sim.origin import origin
from headrace.sim.outcome import Outcome, Sums
from headrace.sim.plan import Plan
from headrace.sim.shrink import from_ranges

app = noun("sim")

OPERATIONS_MAX = 100_000
FAILURES_SHOWN = 3


@app.default
def sim(
    *,
    seed: int | None = None,
    seeds: int = 1,
    operations: int = 300,
    only: str | None = None,
    jobs: int = 1,
    budget: str | None = None,
    transcript: bool = False,
    options: Common = COMMON,
) -> int:
    """Simulate a server, its clients and workers, with crashes and faults, and check every promise.

    Nothing outside this process is touched. The same seed is the same life. Exit code 1
    when a promise was broken: the life is then made short and told.

    Args:
        seed: The first seed; a random one when not given.
        seeds: How many seeds, counted up from the first.
        operations: Commands asked in each life.
        only: Steps of the life to keep, such as 3-5,9; for one seed.
        jobs: Processes that simulate at one time.
        budget: End after this time, such as 10m.
        transcript: Tell the whole life of one seed, also when it goes well.
    """
    if not 1 <= operations <= OPERATIONS_MAX or seeds < 1 or jobs < 1:
        raise UsageFault("--operations, --seeds and --jobs must be 1 or more.")
    first = random.SystemRandom().getrandbits(32) if seed is None else seed
    if seeds == 1:
        return _one(first, operations, _steps(only), transcript, options)
    if only is not None or transcript:
        raise UsageFault("--only and --transcript are for one seed.")
    return _many(range(first, first + seeds), operations, jobs, budget, options)


def _steps(only: str | None) -> set[int] | None:
    if only is None:
        return None
    try:
        return from_ranges(only)
    except ValueError as error:
        raise UsageFault(f"--only is {only!r}; write step numbers as 3-5,9.") from error


def _one(
    seed: int, operations: int, steps: set[int] | None, transcript: bool, options: Common
) -> int:
    plan = plan_for(seed, operations)
    if steps is not None:
        plan = plan.only(steps)
    lived = lived_of(plan)
    outcome = lived.outcome
    if not options.json:
        for line in transcript_of(lived) if transcript else ():
            print_line(line)
        if outcome.violations and steps is None:
            _make_short(plan, outcome, operations)
        elif outcome.violations:
            _tell(plan, outcome, operations, [] if transcript else story_of(lived))
    return _end([outcome], options, outcome.counts)


def _many(seeds: range, operations: int, jobs: int, budget: str | None, options: Common) -> int:
    failed: list[Outcome] = []
    with progress("simulating", len(seeds)) as advance:

        def note(outcome: Outcome) -> None:
            advance(1)
            if outcome.violations:
                failed.append(outcome)

        sums = campaign(
            seeds,
            operations,
            jobs=jobs,
            budget_s=duration_option(budget, "budget") / 1_000,
            on_outcome=note,
        )
    for outcome in () if options.json else failed[:FAILURES_SHOWN]:
        _make_short(plan_for(outcome.seed, operations), outcome, operations)
    return _end(failed, options, _facts(sums))


def _facts(sums: Sums) -> dict[str, Any]:
    facts: dict[str, Any] = {"seeds": sums.seeds, "failed seeds": len(sums.failed_seeds)}
    facts |= {"operations": sums.operations, "seconds": round(sums.seconds, 1)}
    facts["operations/s"] = round(sums.operations / max(sums.seconds, 0.001))
    return facts | sums.counts


def _end(outcomes: list[Outcome], options: Common, facts: dict[str, Any]) -> int:
    failed = [outcome for outcome in outcomes if outcome.violations]
    if options.json:
        print_json({**facts, "failed": [msgspec.structs.asdict(one) for one in failed]})
    else:
        print_facts(facts.items())
    return FAILED if failed else OK


def _make_short(plan: Plan, outcome: Outcome, operations: int) -> None:
    """The shortest life in which it breaks, told."""
    with progress(f"making seed {outcome.seed} short"):
        plan, outcome, told = shrunk_life(plan, outcome)
    _tell(plan, outcome, operations, told)


def _tell(plan: Plan, outcome: Outcome, operations: int, told: list[str]) -> None:
    """What happened, what broke, and how to run that again."""
    for line in told:
        print_line(line)
    for violation in outcome.violations:
        print_line(f"BROKEN  {violation}")
    print_line(f"seed {outcome.seed} of {origin()}")
    print_line(f"again:  {command_of(plan, operations)}")
