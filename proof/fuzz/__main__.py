"""`python -m proof.fuzz parsers` and `python -m proof.fuzz wal`: bent input, and rotten logs.

python -m proof.fuzz parsers [--target NAME]… [--cases N] [--jobs N]   all vectors, a search
python -m proof.fuzz parsers --target NAME --hex BYTES      one input again
python -m proof.fuzz wal --cases N [--seed-from K] [--jobs N]
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from proof.fuzz.judging import bounded_memory, judge, weigh
from proof.fuzz.pooling import Call, spread
from proof.fuzz.running import Volume, parser_share, run_parsers, run_wal, targets_named
from proof.fuzz.target import Target
from proof.fuzz.targets import TARGETS
from proof.result import Result, recorded
from proof.stopping import Stopping

JOB_SEEDS = 1_000_000
"""Between the seeds of two processes that search the same target."""
WAL_CHUNK = 200
SEARCH_S = 600.0
"""Of all vectors and the search, when neither a count nor a time is given."""
LINES_MAX = 20


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    if options.hex is not None or options.input:
        return again(options)
    command = " ".join(("python -m proof.fuzz", *arguments))
    with recorded(options.part, command) as result, Stopping(options.budget_s) as stopping:
        if options.part == "wal":
            run_lives(options, result, stopping)
        else:
            run_targets(options, result, stopping)
        if stopping.asked:
            result.notes.append("stopped by a signal")
    tell(result)
    return 1 if result.failures else 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m proof.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("part", choices=("parsers", "wal"))
    parser.add_argument("--cases", type=int, default=0, help="lives; inputs of the search")
    parser.add_argument("--seed-from", type=int, default=0)
    parser.add_argument(
        "--budget-s", type=float, help=f"0: no limit; {SEARCH_S:.0f} for parsers without --cases"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes; 0: one a processor")
    parser.add_argument("--target", action="append", default=[], choices=sorted(TARGETS))
    parser.add_argument("--no-vectors", action="store_true", help="the search only")
    parser.add_argument("--hex", help="give this one input to the target")
    parser.add_argument("--input", default="", help="the same, from a file")
    options = parser.parse_args(arguments)
    options.jobs = options.jobs or os.cpu_count() or 1
    if options.part == "wal" and not options.cases:
        parser.error("wal needs --cases")
    if options.budget_s is None:
        options.budget_s = 0.0 if options.cases else SEARCH_S
    return options


# --- parsers


def run_targets(options: argparse.Namespace, result: Result, stopping: Stopping) -> None:
    targets = targets_named(options.target)
    if options.jobs == 1:
        volume = Volume(options.seed_from, options.cases, not options.no_vectors)
        run_parsers(targets, volume, result, lambda: stopping.is_due)
        return
    shares = dealt(targets, min(options.jobs, options.cases or options.jobs))
    calls = []
    for number, share in enumerate(shares):
        seed = options.seed_from + JOB_SEEDS * number
        cases = cases_of(options, number, len(shares))
        names = tuple(target.name for target in share)
        calls.append(Call(parser_share, (names, Volume(seed, cases, not options.no_vectors))))
    for part in spread(calls, options.jobs, stopping):
        add(result, part)


def cases_of(options: argparse.Namespace, number: int, shares: int) -> int:
    """Of that share of the search: all together do what was asked for."""
    cases: int = options.cases
    return cases // shares + (number < cases % shares)


def dealt(targets: Sequence[Target], jobs: int) -> list[list[Target]]:
    """Each target to one process, the heaviest first, to whoever has least."""
    shares: list[list[Target]] = [[] for _ in range(min(jobs, len(targets)))]
    for target in sorted(targets, key=lambda one: -one.weight):
        min(shares, key=lambda share: sum(one.weight for one in share)).append(target)
    return shares


# --- lives of a log


def run_lives(options: argparse.Namespace, result: Result, stopping: Stopping) -> None:
    seeds = range(options.seed_from, options.seed_from + options.cases)
    if options.jobs == 1:
        add(result, run_wal(seeds, lambda: stopping.is_due))
        return
    chunks = [seeds[at : at + WAL_CHUNK] for at in range(0, len(seeds), WAL_CHUNK)]
    for part in spread([Call(run_wal, (chunk,)) for chunk in chunks], options.jobs, stopping):
        add(result, part)


def add(result: Result, part: Result) -> None:
    for name, count in part.counts.items():
        result.counts[name] = result.counts.get(name, 0) + count
    result.failures += part.failures
    result.details |= part.details


# --- telling


def again(options: argparse.Namespace) -> int:
    """One input, given to one target: what became of it, on standard output."""
    (name,) = options.target
    data = Path(options.input).read_bytes() if options.input else bytes.fromhex(options.hex)
    return said(lambda: TARGETS[name], data)


def said(target: Callable[[], Target], data: bytes) -> int:
    with bounded_memory():
        outcome, finding = judge(target(), data)
        used_bytes, heavy = weigh(target(), data)
    print(f"{outcome}; {used_bytes} bytes held at most")
    for one in (finding, heavy):
        if one is not None:
            print(one.problem)
    return 1 if finding or heavy else 0


def tell(result: Result) -> None:
    print(", ".join(f"{name} {count:,}" for name, count in sorted(result.counts.items())))
    for name, row in result.details.items():
        print(f"{name:20} " + ", ".join(f"{what} {count}" for what, count in row.items()))
    print(f"{result.seconds} s, {len(result.failures)} failures")
    print("\n".join((*result.notes, *result.failures[:LINES_MAX])))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
