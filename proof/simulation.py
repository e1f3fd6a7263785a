"""Many simulated lives: `python -m proof.simulation --seeds 30000 --operations 1000`.

The same lives as `headrace sim`; here their sums are kept as evidence.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from headrace.sim.campaign import campaign
from headrace.sim.life import command_of, plan_for
from headrace.sim.outcome import Outcome
from proof.result import Result, recorded
from proof.stopping import Stopping


def main() -> int:
    options = _options()
    seeds = range(options.seed_from, options.seed_from + options.seeds)
    command = (
        f"python -m proof.simulation --seed-from {seeds.start} --seeds {len(seeds)}"
        f" --operations {options.operations} --jobs {options.jobs}"
    )
    with recorded("simulation", command) as result:
        _run(seeds, options, result)
    print(f"{result.counts.get('seeds', 0)} lives, {len(result.failures)} of them broken")
    return 1 if result.failures else 0


def _run(seeds: range, options: argparse.Namespace, result: Result) -> None:
    lived: Counter[str] = Counter()

    def note(outcome: Outcome) -> None:
        """The result is true after each life, however the run ends."""
        lived.update({"seeds": 1, "operations": outcome.operations, **outcome.counts})
        result.counts = dict(lived)
        if outcome.violations:
            again = command_of(plan_for(outcome.seed, options.operations), options.operations)
            result.failures.append(f"{outcome.violations[0]} | {again}")
            print(result.failures[-1], flush=True)

    with Stopping(options.budget_s) as stopping:
        campaign(
            seeds,
            options.operations,
            jobs=options.jobs,
            on_outcome=note,
            is_over=lambda: stopping.is_due,
        )
    left = len(seeds) - lived["seeds"]
    if left:
        result.notes.append(f"stopped with {left} seeds left")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1_000)
    parser.add_argument("--seed-from", type=int, default=0)
    parser.add_argument("--operations", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--budget-s", type=float, default=0.0, help="0: no limit")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
