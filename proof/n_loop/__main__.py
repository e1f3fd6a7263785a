"""`python -m proof.n_loop`: every workload, every kind of fault, every call."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from proof.n_loop.looping import Case, cases, endure_case
from proof.result import Result, recorded
from proof.stopping import Stopping


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    if options.call:
        return replay(options)
    with recorded("n-loop", " ".join(("python -m proof.n_loop", *arguments))) as result:
        run(options, result)
    print(", ".join(f"{name} {count:,}" for name, count in result.counts.items()))
    for name, row in sorted(result.details.items()):
        print(f"{name:32} " + ", ".join(f"{told} {count}" for told, count in row.items()))
    print(f"{result.seconds} s, {len(result.failures)} failures")
    print("\n".join((*result.notes, *result.failures)))
    return 1 if result.failures else 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m proof.n_loop", description=__doc__)
    parser.add_argument("--workload", default="", help="only this one")
    parser.add_argument("--kind", default="", help="only this kind of fault")
    parser.add_argument("--call", type=int, default=0, help="replay: the call that it befalls")
    parser.add_argument("--then", default="goes on", help="replay: what follows a refusal")
    parser.add_argument("--budget-s", type=float, default=0.0, help="0: no limit")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace, result: Result) -> None:
    result.counts = {"workloads": 0, "calls": 0}
    with Stopping(options.budget_s) as stopping:
        for case in cases(options.workload, options.kind):
            if stopping.is_due:
                result.notes.append(f"stopped before {case.describe()}")
                return
            note(result, case, *endure_case(case))


def note(result: Result, case: Case, told: str, problem: str) -> None:
    """`details` has a row for each workload, and one for each kind of fault."""
    result.counts["workloads"] += case.workload not in result.details
    rows = [result.details.setdefault(name, {}) for name in (case.workload, f"fault: {case.kind}")]
    for name in ("calls", told):
        result.counts[name] = result.counts.get(name, 0) + 1
        for row in rows:
            row[name] = int(row.get(name, 0)) + 1
    if problem:
        result.failures.append(f"{problem}: {case.command()}")


def replay(options: argparse.Namespace) -> int:
    case = Case(options.workload, options.kind, options.call, options.then)
    told, problem = endure_case(case)
    print(f"{case.describe()}: the caller was told: {told}")
    print(problem or "and all that was promised is there")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
