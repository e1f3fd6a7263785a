"""`python -m proof.explorer`: explore the traces of many seeds, or come back to one state.

Everything is drawn from the seed, so a failure line ends with the command that replays it.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import islice

from proof.explorer.exploring import Exploration, Place
from proof.explorer.seeds import trace_of
from proof.result import Result, recorded
from proof.stopping import Stopping

CALLS_MAX = 40
STATES_PER_PREFIX = 64
FAILURES_OF_A_TRACE_MAX = 3


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    if options.trace is not None:
        return replay(options)
    with recorded("explorer", " ".join(("python -m proof.explorer", *arguments))) as result:
        run(options, result)
    print(", ".join(f"{name} {count:,}" for name, count in result.counts.items()))
    states_per_s = result.counts.get("states", 0) / max(result.seconds, 0.1)
    print(f"{result.seconds} s, {states_per_s:,.0f} states/s, {len(result.failures)} failures")
    print("\n".join((*result.notes, *result.failures)))
    return 1 if result.failures else 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m proof.explorer", description=__doc__)
    parser.add_argument("--traces", type=int, default=60, help="how many seeds")
    parser.add_argument("--seed-from", type=int, default=0)
    parser.add_argument("--states", type=int, default=STATES_PER_PREFIX, help="of each prefix")
    parser.add_argument("--calls", type=int, default=CALLS_MAX, help="of each trace, at most")
    parser.add_argument("--budget-s", type=float, default=0.0, help="0: no limit")
    parser.add_argument("--trace", type=int, help="replay one state: the seed of its trace")
    parser.add_argument("--prefix", type=int, default=0, help="the crash comes before this call")
    parser.add_argument("--state", type=int, default=0, help="which state that the crash left")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace, result: Result) -> None:
    """`result` is true after each trace: a run that is stopped counts for what it did."""
    totals: Counter[str] = Counter()
    with Stopping(options.budget_s) as stopping:
        for seed in range(options.seed_from, options.seed_from + options.traces):
            if stopping.is_due:
                result.notes.append(f"stopped before trace {seed}")
                return
            counts, failures = explore(seed, options.states, options.calls)
            totals.update(counts)
            result.counts = dict(totals)
            result.failures += failures


def explore(seed: int, states: int, calls: int) -> tuple[Counter[str], list[str]]:
    """Counts, and a line for each failure."""
    exploration = Exploration(trace_of(seed, calls), states)
    found = islice(exploration.failures(), FAILURES_OF_A_TRACE_MAX)
    lines = [f"{failure.describe()} --states {states} --calls {calls}" for failure in found]
    return exploration.counts, lines


def replay(options: argparse.Namespace) -> int:
    trace = trace_of(options.trace, options.calls)
    exploration = Exploration(trace, options.states)
    story, problem = exploration.replay(Place(options.prefix, options.state))
    print(f"trace {trace.seed}, {trace.name}: its calls, and what a crash kept of them")
    print("\n".join(story))
    print(problem or "recovered as promised")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
