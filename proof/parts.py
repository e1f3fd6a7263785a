"""The parts of the proof: what each runs, how much in CI and how much in `make prove`.

The one table of volumes; ARCHITECTURE.md and the page of evidence take theirs from here.
"""

from __future__ import annotations

import re

import msgspec

from proof.result import Result

PYTHON = ".venv/bin/python"
_FIRST = re.compile(r"--seed-from (\d+)")
_LONG_S = 86_400
"""Said even where it is no limit today: on older commits some commands had one."""
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
    sampled: str = ""
    """Where it takes a sample though it could go through all, and what its counts mean."""
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
    """Each run does the same: only the newest whole one counts, and nothing is added up."""
    repeated: tuple[str, ...] = ()
    """Counts of what is the same in each run of a part that is none: they do not add up."""
    is_by_number: bool = False
    """The same numbers are the same cases, so a count and a first one name them all."""

    def command(self, count: int, first: int, budget_s: float) -> list[str]:
        filled = {"{count}": count, "{first}": first, "{budget_s}": round(budget_s)}
        words = list(self.arguments)
        for name, value in filled.items():
            words = [word.replace(name, str(value)) for word in words]
        return words

    def again(self, result: Result) -> str:
        """The command that runs the cases of this result once more, without a limit of time."""
        first = _FIRST.search(result.command)
        if not self.is_by_number or first is None:
            return f"{PYTHON}{result.command.removeprefix('python')}"
        words = self.command(result.counts.get(self.unit, 0), int(first[1]), _LONG_S)
        return " ".join((PYTHON, *words))


def _module(name: str, counted: str, *more: str) -> tuple[str, ...]:
    """The common form of a part's command."""
    volume = (f"--{counted}", "{count}", "--seed-from", "{first}") if counted else ()
    return ("-m", f"proof.{name}", *more, *volume, "--budget-s", "{budget_s}")


PARTS = (
    Part(
        name="processes",
        says="Real servers and workers, killed, stopped, drained, and failed by the kernel",
        arguments=_module("processes", "cycles"),
        shown=f"{PYTHON} -m proof.processes --cycles 300",
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
        shown=f"{PYTHON} -m proof.simulation --seeds 30000 --operations 1000 --jobs 2",
        unit="seeds",
        counts=("seeds", "operations", "calls", "records", "states compared"),
        ci="1,000 seeds of 300 operations",
        sampled="live and replayed state are compared at every step of one life in ten, and at a"
        " twentieth of the steps of the others. Operations are calls that were really asked; runs"
        " before commit `76d7da3` count the planned ones, a quarter more, and those before"
        " `42c6520` do not judge progress after the faults",
        planned=30_000,
        minutes=46,
        is_by_number=True,
    ),
    Part(
        name="explorer",
        says="Every prefix of a workload's I/O calls, recovered from the states a crash may leave",
        sampled="a trace has 40 calls at most. All states of a prefix are recovered from where"
        " there are 64 or fewer, and in traces of up to 12 calls while up to 14 units (a sector, a"
        " size, a name) are not durable (8 before commit `b45f9e8`); elsewhere the extremes and"
        " random ones, about 64 a prefix",
        arguments=_module("explorer", "traces"),
        shown=f"{PYTHON} -m proof.explorer --traces 2000",
        unit="traces",
        counts=("traces", "prefixes", "states", "recoveries"),
        ci="60 traces of at most 40 calls, 16 states a prefix",
        planned=2_000,
        minutes=11,
        is_by_number=True,
    ),
    Part(
        name="wal",
        says="Logs torn, cut, flipped, zeroed and mixed up, then recovered",
        sampled="each case is a life of its own, drawn from its number. Bodies that quote their own"
        " log where its commits would begin are among them since commit `ec4f4b5`",
        arguments=_module("fuzz", "cases", "wal"),
        shown=f"{PYTHON} -m proof.fuzz wal --cases 500000 --jobs 2",
        unit="cases",
        counts=("cases",),
        ci="10,000 cases",
        planned=500_000,
        minutes=9.5,
        is_by_number=True,
    ),
    Part(
        name="parsers",
        says="Every golden vector whole, in pieces, cut and flipped; then guided fuzzing",
        arguments=_module("fuzz", "", "parsers"),
        shown=f"{PYTHON} -m proof.fuzz parsers",
        unit="cases",
        sampled="every golden vector is cut at each length and has each bit flipped (the one above"
        " 4 KiB, a snapshot, since commit `dc50c49`); whole directories and whole conversations"
        " with a server, which are many vectors, only at some",
        counts=("cases of vectors", "cases of the search"),
        ci="all vectors whole; those above 1,100 bytes with 2,000 cuts and 2,000 flipped bits",
        planned=0,
        minutes=4,
        repeated=(
            *("cases", "cases of vectors", "taken", "refused"),
            *("arcs reached", "inputs kept", "allocations counted"),
        ),
    ),
    Part(
        name="n-loop",
        says="The Nth I/O call of a workload fails, for every N until it passes untouched",
        arguments=_module("n_loop", ""),
        shown=f"{PYTHON} -m proof.n_loop",
        unit="calls",
        counts=("workloads", "calls"),
        ci="all small workloads",
        planned=0,
        minutes=2,
        is_catalogue=True,
    ),
    Part(
        name="mutants",
        says="Known-bad changes of the code, each of which a check must notice",
        arguments=_module("mutants", "", "--jobs", "1"),
        shown=f"{PYTHON} -m proof.mutants",
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
        shown=f"{PYTHON} -m proof.museum",
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
