"""`make prove`: every part with its long volume, on two processors, in a bounded time.

An interrupted run goes on where it stopped, as long as the commit is the same: what is done
is read from the results, and each part is asked for what is left. A part that is slower than
hoped keeps its time and lowers its counts; the table at the end says so.

Must never count a part that did not end in good order.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from proof.children import python
from proof.parts import MINUTES, PARTS, Part
from proof.result import RESULTS, ROOT, RUN, Result, commit_name, kept
from proof.stopping import Stopping

_GRACE_S = 180.0
"""A part that has not ended so long after its time is killed."""
_LOOK_S = 0.2
_BUDGET_S_MIN = 5.0


class State(msgspec.Struct):
    """What a run must remember, beside the results."""

    commit: str
    run: str
    """What its results carry."""
    first: int = 0
    """Number of the first seed or case."""
    ended: list[str] = []
    """Parts that came to their end, or to that of their time."""


class Progress(msgspec.Struct):
    """One part of this run: the sums of its results."""

    part: Part
    runs: int = 0
    done: int = 0
    seconds: float = 0.0
    failures: list[str] = []
    notes: list[str] = []

    def left_s(self, scale: float) -> float:
        return self.part.minutes * 60 * scale - self.seconds


def progress_of(part: Part, state: State, results: Sequence[Result]) -> Progress:
    """What the results of this run say of a part."""
    found = Progress(part)
    for result in results:
        if (result.part, result.run) == (part.name, state.run):
            found.runs += 1
            found.done += result.counts.get(part.unit, 0)
            found.seconds += result.seconds
            found.failures = found.failures + result.failures
            found.notes = [*found.notes, *(n for n in result.notes if n not in found.notes)]
    return found


class Run:
    """One call of `make prove`."""

    def __init__(self, state: State, directory: Path, minutes: float, stopping: Stopping) -> None:
        self._state = state
        self._directory = directory
        self._scale = minutes / MINUTES
        self._stopping = stopping
        self._lock = threading.Lock()
        self.broken: dict[str, str] = {}
        """Parts that did not end in good order, with what is known of it."""

    def run(self, parts: Sequence[Part]) -> None:
        """Those that need the machine for themselves first, then two at a time."""
        left = [part for part in parts if part.name not in self._state.ended]
        for part in [part for part in left if part.alone]:
            self._run_part(part)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self._run_part, [part for part in left if not part.alone]))

    def _run_part(self, part: Part) -> None:
        before = progress_of(part, self._state, kept())
        budget_s = before.left_s(self._scale)
        count = part.planned - before.done
        if self._stopping.is_due:
            return
        if budget_s >= _BUDGET_S_MIN and (count > 0 or not part.planned):
            _say(f"{part.name}: {count or 'all'} {part.unit} in at most {budget_s / 60:.0f} min")
            command = part.command(count, self._state.first + before.done, budget_s)
            exit_code = self._execute(part, command, budget_s + _GRACE_S)
            self._judge(part, before, exit_code)
        if not self._stopping.asked and part.name not in self.broken:
            with self._lock:
                self._state.ended.append(part.name)
                write_state(self._state, self._directory)

    def _execute(self, part: Part, command: Sequence[str], limit_s: float) -> int:
        """Its exit code. Told to stop when we are; killed when it does not."""
        log = self._directory / f"{part.name}.log"
        with log.open("ab") as output:
            environ = {**os.environ, RUN: self._state.run}
            with python(command, cwd=ROOT, environ=environ, output=output) as child:
                return _wait(child, limit_s, lambda: self._stopping.asked)

    def _judge(self, part: Part, before: Progress, exit_code: int) -> None:
        after = progress_of(part, self._state, kept())
        log = self._directory / f"{part.name}.log"
        if self._stopping.asked:
            pass
        elif after.runs == before.runs:
            self.broken[part.name] = f"left no result (exit code {exit_code}); see {log}"
        elif after.done < part.planned and after.left_s(self._scale) > _BUDGET_S_MIN:
            self.broken[part.name] = f"ended before its time and its count; see {log}"
        elif exit_code and len(after.failures) == len(before.failures):
            self.broken[part.name] = f"ended with exit code {exit_code}; see {log}"
        _say(f"{part.name}: {after.done} {part.unit}, {len(after.failures)} failures")


def _wait(child: subprocess.Popen[bytes], limit_s: float, asked: Callable[[], bool]) -> int:
    until_s = time.monotonic() + limit_s
    told = False
    while time.monotonic() < until_s:
        try:
            return child.wait(_LOOK_S)
        except subprocess.TimeoutExpired:
            if asked() and not told:
                told = True
                child.send_signal(signal.SIGINT)
                until_s = min(until_s, time.monotonic() + _GRACE_S)
    return -signal.SIGKILL


# --- what is remembered


def _state_path(directory: Path) -> Path:
    return directory / "prove.json"


def read_state(directory: Path, commit: str, first: int, *, fresh: bool) -> State:
    """That of the run to go on with; a new one for another commit, other seeds, or `fresh`."""
    path = _state_path(directory)
    if path.exists() and not fresh:
        found = msgspec.json.decode(path.read_bytes(), type=State)
        if (found.commit, found.first) == (commit, first):
            return found
    state = State(commit, f"{commit}/{datetime.now(UTC).isoformat()}", first)
    write_state(state, directory)
    return state


def write_state(state: State, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    _state_path(directory).write_bytes(msgspec.json.encode(state))


# --- what is said


def table(
    parts: Sequence[Part], state: State, results: Sequence[Result], broken: dict[str, str]
) -> tuple[str, int]:
    """The table at the end, and how many parts have failed."""
    rows = [("part", "planned", "done", "failures", "minutes", "")]
    below: list[str] = []
    failed = 0
    for part in parts:
        found = progress_of(part, state, results)
        planned = f"{part.planned:,} {part.unit}" if part.planned else f"all {part.unit}"
        said = _remark(part, found, state, broken)
        failed += bool(found.failures or part.name in broken)
        minutes = f"{found.seconds / 60:.1f}"
        rows.append(
            (part.name, planned, f"{found.done:,}", f"{len(found.failures)}", minutes, said)
        )
        below += [f"{part.name}: {line}" for line in found.failures]
        below += [f"{part.name}: {note}" for note in found.notes]
    commits = {result.commit for result in results if result.run == state.run}
    if commits - {state.commit}:
        below.append(f"The tree changed meanwhile: {', '.join(sorted(commits))}.")
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([*lines, "", *below]).rstrip(), failed


def _remark(part: Part, found: Progress, state: State, broken: dict[str, str]) -> str:
    if part.name in broken:
        return broken[part.name]
    if part.name not in state.ended:
        return "not finished"
    if found.done < part.planned:
        return "its time was over before its count"
    return ""


def _say(line: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {line}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """1 when anything failed, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="python -m proof.prove", description="All of the proof.")
    parser.add_argument("--minutes", type=float, default=float(MINUTES), help="for all parts")
    parser.add_argument("--only", nargs="+", metavar="PART", choices=[p.name for p in PARTS])
    parser.add_argument("--seed-from", type=int, default=0, help="first seed and case")
    parser.add_argument("--fresh", action="store_true", help="do not go on with an earlier run")
    given = parser.parse_args(arguments)
    parts = [part for part in PARTS if not given.only or part.name in given.only]
    directory = RESULTS.parent
    state = read_state(directory, commit_name(), given.seed_from, fresh=given.fresh)
    _say(f"commit {state.commit or 'unknown'}; results and logs are in {directory}")
    # Its parts have budgets of their own; this bounds what would begin too late.
    with Stopping(given.minutes * 60 + _GRACE_S) as stopping:
        run = Run(state, directory, given.minutes, stopping)
        run.run(parts)
    text, failed = table(parts, state, kept(), run.broken)
    print(f"\n{text}")
    if stopping.asked:
        print("Stopped; the same command goes on from here.")
        return 130
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
