"""A run of some targets within a budget: what is due next, what was found, in one process.

Time is shared by weight: each target gets its vectors first, whole and damaged, then rounds
of the search until the cases or the time are used up.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from proof.fuzz.guided import Search, Tally, run_systematic, shrunk
from proof.fuzz.judging import SHOWN_BYTES_MAX, Finding, bounded_memory
from proof.fuzz.target import Target
from proof.fuzz.targets import TARGETS
from proof.fuzz.wal import run_case
from proof.result import RESULTS, Result

ROUND = 200
"""Cases of one turn of a target of weight 1."""
FAILURES_MAX = 50

IsOver = Callable[[], bool]


class Volume(msgspec.Struct, frozen=True):
    """How much of the parsers, and from which seed."""

    seed: int = 0
    cases: int = 0
    """Of the search, for all targets together; 0: until the time is over."""
    systematic: bool = True


def run_parsers(targets: Sequence[Target], volume: Volume, result: Result, is_over: IsOver) -> None:
    """`result` has the counts and the findings, each with the command that shows it again."""
    tallies = {target.name: Tally() for target in targets}
    with bounded_memory():
        if volume.systematic:
            for target in targets:
                run_systematic(target, volume.seed, lambda: not is_over(), tallies[target.name])
        damaged = sum(tally.cases for tally in tallies.values())
        _search(targets, volume, tallies, is_over)
        for target in targets:
            for finding in tallies[target.name].findings:
                result.failures.append(kept(shrunk(target, finding)))
    del result.failures[FAILURES_MAX:]
    result.counts |= _sums(tallies, damaged)
    result.details |= {name: _row(tally) for name, tally in tallies.items()}


def parser_share(names: tuple[str, ...], volume: Volume, is_over: IsOver) -> Result:
    """What one process of several runs."""
    result = Result(part="parsers", command="")
    run_parsers(targets_named(names), volume, result, is_over)
    return result


def _search(
    targets: Sequence[Target], volume: Volume, tallies: dict[str, Tally], is_over: IsOver
) -> None:
    """Rounds, each target in proportion to its weight: by cases, or by time when that ends it."""
    searches = {
        target.name: Search(target, volume.seed, tallies[target.name]) for target in targets
    }
    left = volume.cases or 1 << 62
    spent_s: Counter[str] = Counter()
    while left > 0 and not is_over():
        target = min(targets, key=lambda one: spent_s[one.name] / one.weight)
        began_s = time.perf_counter()
        for _ in range(min(left, ROUND)):
            if is_over():
                break
            searches[target.name].step()
            left -= 1
        spent = ROUND if volume.cases else time.perf_counter() - began_s
        spent_s[target.name] += spent  # type: ignore[assignment]
    for search in searches.values():
        search.end()


def _sums(tallies: dict[str, Tally], damaged: int) -> dict[str, int]:
    cases = sum(tally.cases for tally in tallies.values())
    return {
        "cases": cases,
        "cases of vectors": damaged,
        "cases of the search": cases - damaged,
        "taken": sum(tally.taken for tally in tallies.values()),
        "refused": sum(tally.refused for tally in tallies.values()),
        "arcs reached": sum(tally.arcs for tally in tallies.values()),
        "inputs kept": sum(tally.kept for tally in tallies.values()),
        "allocations counted": sum(tally.weighed for tally in tallies.values()),
    }


def _row(tally: Tally) -> dict[str, str | int]:
    return {
        "cases": tally.cases,
        "taken": tally.taken,
        "arcs": tally.arcs,
        "kept": tally.kept,
        "most bytes held": tally.bytes_max,
        "findings": len(tally.findings),
    }


def kept(finding: Finding) -> str:
    """Its line; an input too long for a command is in a file beside the results."""
    if len(finding.data) <= SHOWN_BYTES_MAX:
        return finding.line()
    name = hashlib.blake2b(finding.data, digest_size=6).hexdigest()
    path = RESULTS.parent / "fuzz" / f"{finding.target}-{name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(finding.data)
    return f"{finding.target}: {finding.problem} [{replay_of(finding.target, path)}]"


def replay_of(target: str, path: Path) -> str:
    return f"python -m proof.fuzz parsers --target {target} --input {path}"


def run_wal(seeds: range, is_over: IsOver) -> Result:
    """Lives of a log by seed; a failure goes on with the next one."""
    found = Result(part="wal", command="")
    outcomes: Counter[str] = Counter()
    for seed in seeds:
        if is_over():
            break
        try:
            outcomes[run_case(seed)] += 1
        except Exception as error:
            problem = f"{type(error).__name__}: {error!s:.300}"
            replay = f"python -m proof.fuzz wal --cases 1 --seed-from {seed}"
            found.failures.append(f"seed {seed}: {problem} [{replay}]")
    found.counts = {"cases": outcomes.total() + len(found.failures), **outcomes}
    return found


def targets_named(names: Sequence[str]) -> list[Target]:
    """All of them for no name. Raises: `KeyError`."""
    return [TARGETS[name] for name in names] if names else list(TARGETS.values())
