"""Real processes under real faults, at length: `python -m proof.processes --cycles 300`.

Runs the stories of `tests/e2e/crash` again and again, each with a seed of its own, and the
scenarios that are tests by themselves once. A fault that this machine does not allow is noted,
never passed over.

    --cycles N      SIGKILL cycles; every other kind of story follows in proportion
    --budget-s S    begin no further story after so long; 0: tell all of them
    --seed-from K   of the first story of each kind; the next has the next
    --units N       so many stories of each kind, whatever --cycles says: 1 replays one seed
    --jobs J        so many at a time
    --only KIND …   of these kinds
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import msgspec

from proof.result import ROOT, Result, recorded
from proof.stopping import Stopping
from tests.e2e.crash import campaigns, rights

Tally = Counter[str]
PART = "processes"
SCENARIOS = (
    *("test_killed_worker", "test_blocked_loop", "test_wall_clock", "test_power_cut"),
    *("test_full_disk", "test_bad_luck", "test_worker_bad_luck", "test_io_errors"),
    *("test_sdk_reconnect", "test_sdk_embedded", "test_cli_disk_failure"),
)
"""Files of tests/e2e whose stories are told once and have no seed."""
WITH_LONG = {"test_full_disk"}
"""What else is long in the others is told here by kind."""
SCENARIO_S = 600
REPORT = "report.xml"
PASSED, SKIPPED = "scenarios passed", "scenarios skipped"
SENTENCE_MAX = 400
"""Characters of a failure: its beginning, and its end where the reason stands."""


class Unit(msgspec.Struct, frozen=True):
    """One story to be told."""

    kind: str
    position: float
    """Of its kind: 0 for the first, nearly 1 for the last."""
    tell: Callable[[Path], Tally]
    replay: str


def main() -> int:
    options = _options()
    units = sorted(units_of(options), key=lambda unit: unit.position)
    command = shlex.join(["python", "-m", "proof.processes", *sys.argv[1:]])
    with recorded(PART, command) as result, Stopping(options.budget_s) as stopping:
        result.notes.append(f"did not run: {rights.no_lazyfs().reason}")
        Telling(result, stopping).all_of(units, options.jobs)
    _print_summary(result)
    return 1 if result.failures else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m proof.processes")
    parser.add_argument("--cycles", type=int, default=300)
    parser.add_argument("--budget-s", type=float, default=0.0, help="0: no limit")
    parser.add_argument("--seed-from", type=int, default=1)
    parser.add_argument("--units", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--only", nargs="+", default=[], metavar="KIND")
    options = parser.parse_args()
    unknown = set(options.only) - {*campaigns.KINDS, "scenarios"}
    if unknown:
        parser.error(f"no such kind: {', '.join(unknown)}; there are {', '.join(campaigns.KINDS)}")
    return options


# --- units


def units_of(options: argparse.Namespace) -> Iterator[Unit]:
    for kind, campaign in campaigns.KINDS.items():
        if options.only and kind not in options.only:
            continue
        count = options.units or campaign.count_for(options.cycles)
        for number in range(count):
            seed = options.seed_from + number
            replay = f"python -m proof.processes --only {kind} --units 1 --seed-from {seed}"
            yield Unit(kind, number / count, _seeded(campaign, seed), replay)
    if not options.only or "scenarios" in options.only:
        for number, name in enumerate(SCENARIOS):
            replay = f"python -m pytest tests/e2e/{name}.py"
            yield Unit("scenarios", number / len(SCENARIOS), _scenario(name), replay)


def _seeded(campaign: campaigns.Campaign, seed: int) -> Callable[[Path], Tally]:
    return lambda directory: campaign.tell(directory, seed)


class Telling:
    """Stories told one after the other, some at a time, and what they came to."""

    def __init__(self, result: Result, stopping: Stopping) -> None:
        self._result = result
        self._stopping = stopping
        self._lock = threading.RLock()
        self._done = Tally()
        self._sums = Tally()

    def all_of(self, units: list[Unit], jobs: int) -> None:
        """Until no more of them fit into the time. The result is filled in."""
        with ThreadPoolExecutor(jobs) as pool:
            for _ in pool.map(self._tell, units):
                pass
        planned = Counter(unit.kind for unit in units)
        for kind, count in planned.items():
            if self._done[kind] < count:
                done = f"{self._done[kind]} of {count} stories"
                self._note(f"{kind}: the time was over after {done}")
        self._result.counts = dict(sorted(self._sums.items()))

    def _tell(self, unit: Unit) -> None:
        """Its sums are added; of one that failed the directory is left."""
        if self._stopping.is_due:
            return
        directory = Path(tempfile.mkdtemp(prefix="headrace-story-"))
        begun_s = time.monotonic()
        try:
            tally = unit.tell(directory)
        except rights.DoesNotRun as error:
            self._begun(unit)
            self._note(f"did not run: {unit.kind}: {error}")
        except Exception as error:
            self._failed(unit, error, directory)
            return
        else:
            for lack in skipped_in(directory):
                self._note(f"did not run: {lack}")
            self._passed(unit, tally, time.monotonic() - begun_s)
        shutil.rmtree(directory, ignore_errors=True)

    def _begun(self, unit: Unit) -> None:
        """It had its turn, whatever came of it."""
        with self._lock:
            self._done[unit.kind] += 1

    def _note(self, note: str) -> None:
        with self._lock:
            if note not in self._result.notes:
                self._result.notes.append(note)

    def _failed(self, unit: Unit, error: Exception, directory: Path) -> None:
        with self._lock:
            self._begun(unit)
            line = f"{unit.kind}: {_sentence(error)}; replay: {unit.replay}"
            self._result.failures.append(line)
            traceback.print_exception(error)
            print(f"FAILED, left in {directory}", flush=True)

    def _passed(self, unit: Unit, tally: Tally, seconds: float) -> None:
        with self._lock:
            self._begun(unit)
            self._sums.update(tally)
            self._sums["stories"] += set(tally) != {SKIPPED}
            print(f"{unit.kind:<16} {seconds:6.1f} s  {_shown(tally)}", flush=True)


def _sentence(error: Exception) -> str:
    """What broke, and where an assertion has no words of its own."""
    said = " ".join(str(error).split())
    if len(said) > SENTENCE_MAX:
        said = f"{said[:50]} … {said[-SENTENCE_MAX:]}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {said or last.line} ({last.name})"


def _scenario(name: str) -> Callable[[Path], Tally]:
    def tell(directory: Path) -> Tally:
        report = directory / REPORT
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += ["-m", "long or not long"] if name in WITH_LONG else []
        command += [f"--junitxml={report}", f"tests/e2e/{name}.py"]
        ran = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=SCENARIO_S,
            check=False,
            start_new_session=True,  # what interrupts this run must not fail its last story
        )
        if ran.returncode != 0:
            raise AssertionError(f"{name}: {ran.stdout[-2_000:]}")
        return _counted(report)

    return tell


def _counted(report: Path) -> Tally:
    cases = ElementTree.parse(report).iter("testcase")
    return Tally(PASSED if case.find("skipped") is None else SKIPPED for case in cases)


def skipped_in(directory: Path) -> list[str]:
    """Each reason why a scenario told there was skipped, behind the names of those tests."""
    report = directory / REPORT
    names: dict[str, dict[str, None]] = {}
    for case in ElementTree.parse(report).iter("testcase") if report.exists() else ():
        skipped = case.find("skipped")
        if skipped is not None:
            test = case.get("name", "").partition("[")[0]
            names.setdefault(skipped.get("message", ""), {})[test] = None
    return [f"{', '.join(tests)}: {reason}" for reason, tests in names.items()]


def _print_summary(result: Result) -> None:
    print(f"\n{_shown(Counter(result.counts))}")
    for line in (*result.notes, *result.failures):
        print(line)
    print(f"{'FAILED' if result.failures else 'passed'} after {result.seconds:.0f} s")


def _shown(tally: Tally) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in tally.items() if count)


if __name__ == "__main__":
    sys.exit(main())
