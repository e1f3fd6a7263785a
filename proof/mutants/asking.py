"""`python -m proof.mutants.asking HARNESS COUNT`: a harness, asked until it first says no.

The long runs go on after a failure and make it short; a mutant only wants to know whether,
and after how much. Exit code 1 with the number of the first case that goes wrong, counted
from 0, whether it was judged so or raised something.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, islice

from headrace.testing.sim_disk import SimCrash

OPERATIONS = 300
"""Of one simulated life."""
CALLS = 40
"""Of one explored trace."""
STATES = 16
"""Of each of its prefixes."""

Judge = Callable[[], str]
"""Runs one case; says what is wrong with it, or nothing."""


def simulation() -> Iterator[Judge]:
    from headrace.sim.life import command_of, live_plan, plan_for

    def judge(seed: int) -> str:
        plan = plan_for(seed, OPERATIONS)
        found = live_plan(plan).violations
        return f"{found[0]} | {command_of(plan, OPERATIONS)}" if found else ""

    return (partial(judge, seed) for seed in count())


def explorer() -> Iterator[Judge]:
    from proof.explorer.__main__ import explore

    def judge(seed: int) -> str:
        return "; ".join(explore(seed, STATES, CALLS)[1][:1])

    return (partial(judge, seed) for seed in count())


def n_loop() -> Iterator[Judge]:
    from proof.n_loop.looping import Case, cases, endure_case

    def judge(case: Case) -> str:
        problem = endure_case(case)[1]
        return problem and f"{case.describe()}: {problem}"

    return (partial(judge, case) for case in cases())


def wal() -> Iterator[Judge]:
    from proof.fuzz.wal import run_case

    def judge(seed: int) -> str:
        run_case(seed)
        return ""

    return (partial(judge, seed) for seed in count())


HARNESSES = {"simulation": simulation, "explorer": explorer, "n-loop": n_loop, "wal": wal}


def main(arguments: list[str]) -> int:
    name, cases_max = arguments[0], int(arguments[1])
    for seed, judge in enumerate(islice(HARNESSES[name](), cases_max)):
        try:
            problem = judge()
        except (Exception, SimCrash) as error:
            problem = f"{type(error).__name__}: {error}"
        if problem:
            print(f"seed {seed}: {problem}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
