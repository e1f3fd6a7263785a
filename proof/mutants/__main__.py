"""`python -m proof.mutants [--only NAME…] [--list] [--budget-s S] [--jobs N]`."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from proof.mutants.catalog import all_mutants
from proof.mutants.hunting import Baselines, Verdict, hunt, keep, kept, key_of, tree_digest
from proof.mutants.mutant import Mutant
from proof.mutants.planting import Bed
from proof.result import Result, recorded

COMMAND = "python -m proof.mutants"


def main(arguments: Sequence[str] | None = None) -> int:
    """1 when a mutant was not caught, or a catcher cannot be believed."""
    options = _parse(arguments)
    catalog = all_mutants()
    names = options.only or list(catalog)
    unknown = [name for name in names if name not in catalog]
    if unknown:
        print(f"there is no mutant {', '.join(unknown)}; --list names all", file=sys.stderr)
        return 2
    if options.list:
        for name in names:
            print(f"{catalog[name][0]:8} {name:36} {catalog[name][1].mistake}")
        return 0
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with recorded("mutants", _command(options)) as result:
        hunted = Hunters(options, stop).hunt_all([catalog[name][1] for name in names])
        _tell(result, {name: catalog[name] for name in names}, hunted)
    print(", ".join(f"{count} {what}" for what, count in result.counts.items()))
    return 1 if result.failures else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=COMMAND, description="Hunt the known-bad changes.")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these mutants")
    parser.add_argument("--list", action="store_true", help="name the mutants and end")
    parser.add_argument("--budget-s", type=float, default=3600.0, help="begin none after this")
    parser.add_argument("--jobs", type=int, default=2, help="mutants hunted at a time")
    parser.add_argument("--again", action="store_true", help="hunt also what is known")
    return parser.parse_args(arguments)


def _command(options: argparse.Namespace) -> str:
    return f"{COMMAND} --only {' '.join(options.only)}" if options.only else COMMAND


class Hunters:
    """So many mutants at a time, each hunted in a copy of the tree of its own."""

    def __init__(self, options: argparse.Namespace, stop: threading.Event) -> None:
        self._jobs: int = options.jobs
        self._until_s = time.monotonic() + options.budget_s
        self._stop = stop
        self._tree = tree_digest()
        self._known = {} if options.again else kept()
        self._baselines = Baselines(stop)
        self._beds: SimpleQueue[Bed] = SimpleQueue()

    def hunt_all(self, mutants: Sequence[Mutant]) -> dict[str, Verdict]:
        """Verdicts by name; what time did not allow is left out."""
        with tempfile.TemporaryDirectory(prefix="headrace-mutants-") as directory:
            for number in range(self._jobs):
                place = Path(directory) / str(number)
                place.mkdir()
                self._beds.put(_checked(Bed(place)))
            with ThreadPoolExecutor(self._jobs) as pool:
                verdicts = list(pool.map(self._one, mutants))
        return {verdict.mutant: verdict for verdict in verdicts if verdict is not None}

    def _one(self, mutant: Mutant) -> Verdict | None:
        key = key_of(mutant, self._tree)
        verdict = self._known.get(key)
        if verdict is None:
            if self._stop.is_set() or time.monotonic() > self._until_s:
                return None
            bed = self._beds.get()
            try:
                verdict = hunt(mutant, bed, self._baselines, self._stop)
            finally:
                self._beds.put(bed)
            if verdict.outcome == "stopped":
                return None
            if verdict.outcome == "caught":
                keep(key, verdict)
        print(f"{_line(verdict)}\n", end="", flush=True)
        return verdict


def _checked(bed: Bed) -> Bed:
    """The copy is what is imported there. Raises: `RuntimeError`."""
    found = subprocess.run(
        [sys.executable, "-c", "import headrace; print(headrace.__file__)"],
        env={**os.environ, "PYTHONPATH": str(bed.root / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    if not found.stdout.startswith(str(bed.root)):
        raise RuntimeError(f"not the copy is imported, but {found.stdout.strip()}")
    return bed


def _line(verdict: Verdict) -> str:
    if verdict.outcome != "caught":
        return f"{verdict.outcome.upper():14} {verdict.mutant:36} {verdict.says}"
    cost = f"{verdict.count} {verdict.counts}, {verdict.seconds} s"
    return f"{verdict.outcome:14} {verdict.mutant:36} {verdict.by} ({cost})"


def _tell(
    result: Result, wanted: dict[str, tuple[str, Mutant]], hunted: dict[str, Verdict]
) -> None:
    counts: Counter[str] = Counter(verdict.outcome for verdict in hunted.values())
    result.counts = {"mutants": len(wanted), **counts}
    if len(hunted) < len(wanted):
        result.counts["not run"] = len(wanted) - len(hunted)
        left = [name for name in wanted if name not in hunted]
        result.notes.append(f"Time was over, or the run was stopped, before: {', '.join(left)}")
    for name, verdict in hunted.items():
        kind, mutant = wanted[name]
        result.details[name] = _row(kind, mutant, verdict)
        if verdict.outcome != "caught":
            said = f": {verdict.says}" if verdict.says else ""
            result.failures.append(f"{name} {verdict.outcome}{said}; {COMMAND} --only {name}")
        elif verdict.broken:
            broken = "; ".join(verdict.broken)
            result.failures.append(f"{name}: {broken}; {COMMAND} --again --only {name}")


def _row(kind: str, mutant: Mutant, verdict: Verdict) -> dict[str, str | int]:
    return {
        "class": kind,
        "mistake": mutant.mistake,
        "shipped by": mutant.shipped_by,
        "breaks": mutant.breaks,
        "outcome": verdict.outcome,
        "caught by": verdict.by,
        "says": verdict.says,
        "counts": verdict.counts,
        "count": verdict.count,
        "seconds": round(verdict.seconds),
    }


if __name__ == "__main__":
    sys.exit(main())
