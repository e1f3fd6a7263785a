"""The parts of the proof: what each runs, how much in CI and how much in `make prove`.

The one table of volumes; ARCHITECTURE.md and the page of evidence take theirs from here.
"""

from __future__ import annotations

import msgspec

MINUTES = 60
"""What the shares below add up to, on two processors."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One part, and how it is asked for more."""

    name: str
    """That of its results."""
    says: str
    """What it runs, in one sentence."""
    arguments: tuple[str, ...]
    """What follows `python`. `{count}`, `{first}` and `{budget_s}` are filled in."""
    shown: str
    """The command as a reader types it."""
    unit: str
    """The count of its results that says how far it came."""
    counts: tuple[str, ...]
    """Those that the page shows first; the others follow below."""
    ci: str
    """Its volume in CI (`make test-proof`)."""
    planned: int
    """So many of its unit in `make prove`."""
    minutes: float
    """Its share of `MINUTES`."""
    alone: bool = False
    """It needs both processors, or a quiet machine."""
    is_catalogue: bool = False
    """Each run does the same: sums over several runs would say nothing."""

    def command(self, count: int, first: int, budget_s: float) -> list[str]:
        filled = {"{count}": count, "{first}": first, "{budget_s}": round(budget_s)}
        words = list(self.arguments)
        for name, value in filled.items():
            words = [word.replace(name, str(value)) for word in words]
        return words


def _module(name: str, counted: str, *more: str) -> tuple[str, ...]:
    """The common form of a part's command."""
    volume = (f"--{counted}", "{count}", "--seed-from", "{first}") if counted else ()
    return ("-m", f"proof.{name}", *more, *volume, "--budget-s", "{budget_s}")


PARTS = (
    Part(
        name="processes",
        says="Real servers and workers, killed, stopped, drained, and failed by the kernel",
        arguments=_module("processes", "cycles"),
        shown="python -m proof.processes --cycles 300",
        unit="cycles",
        counts=("cycles", "stories", "jobs", "scenarios passed"),
        ci="10 SIGKILL cycles, and one story of each other kind",
        planned=300,
        minutes=14,
        alone=True,
    ),
    Part(
        name="simulation",
        says="Whole lives of a server, its clients and workers on a simulated machine with faults",
        arguments=_module("simulation", "seeds", "--operations", "1000", "--jobs", "1"),
        shown="python -m proof.simulation --seeds 30000 --operations 1000",
        unit="seeds",
        counts=("seeds", "operations", "calls", "records", "states compared"),
        ci="1,000 seeds of 300 operations",
        planned=30_000,
        minutes=46,
    ),
    Part(
        name="explorer",
        says="Every prefix of a workload's I/O calls, recovered from the states a crash may leave",
        arguments=_module("explorer", "traces"),
        shown="python -m proof.explorer --traces 2000",
        unit="traces",
        counts=("traces", "prefixes", "states", "recoveries"),
        ci="60 traces of at most 40 calls, 16 states a prefix",
        planned=2_000,
        minutes=11,
    ),
    Part(
        name="wal",
        says="Logs torn, cut, flipped, zeroed and mixed up, then recovered",
        arguments=_module("fuzz", "cases", "wal"),
        shown="python -m proof.fuzz wal --cases 500000",
        unit="cases",
        counts=("cases",),
        ci="10,000 cases",
        planned=500_000,
        minutes=9.5,
    ),
    Part(
        name="parsers",
        says="Every golden vector whole, in pieces, cut and flipped; then guided fuzzing",
        arguments=_module("fuzz", "", "parsers"),
        shown="python -m proof.fuzz parsers",
        unit="cases",
        counts=("cases",),
        ci="all vectors",
        planned=0,
        minutes=4,
    ),
    Part(
        name="n-loop",
        says="The Nth I/O call of a workload fails, for every N until it passes untouched",
        arguments=_module("n_loop", ""),
        shown="python -m proof.n_loop",
        unit="calls",
        counts=("workloads", "calls"),
        ci="all small workloads",
        planned=0,
        minutes=2,
    ),
    Part(
        name="mutants",
        says="Known-bad changes of the code, each of which a check must notice",
        arguments=_module("mutants", "", "--jobs", "1"),
        shown="python -m proof.mutants",
        unit="caught",
        counts=("mutants", "caught", "not run"),
        ci="one mutant of each class",
        planned=0,
        minutes=12.5,
        is_catalogue=True,
    ),
    Part(
        name="museum",
        says="Bugs that were found, put back one by one: the regression of each must fail",
        arguments=_module("museum", "", "--jobs", "1"),
        shown="python -m proof.museum",
        unit="bugs",
        counts=("bugs",),
        ci="the form of the catalogue",
        planned=0,
        minutes=7,
        is_catalogue=True,
    ),
)


def by_name() -> dict[str, Part]:
    return {part.name: part for part in PARTS}
