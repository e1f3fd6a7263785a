"""The bug museum: every bug that was found makes its regression fail when it is put back.

Each entry of `tests/museum/catalog.toml` is tried twice, in a copy of the tree: as the code
is, where its regression passes, and with the bug put back, where it fails, in the test that
is named and with the error that is named. A bug that nothing notices any more is a failure.

Must never change the working tree.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import msgspec

from proof.museum_probe import PROBE_FILE, Ended
from proof.result import ROOT, Result, recorded
from proof.stopping import Stopping
from proof.trees import Change, TargetGone, Tree, changed_text, copies

CATALOG = ROOT / "tests" / "museum" / "catalog.toml"
HARMS = ("loss", "twice", "hang", "crash", "answer", "bound", "unfair", "nuisance")
SIM = "headrace sim "
TEST_TIMEOUT_S = 40
"""A regression that hangs with the bug in place has failed by then."""
_RUN_TIMEOUT_S = 120.0
_SIM_MAIN = "from headrace.cli.main import main; raise SystemExit(main())"
_NO_BUG = frozenset({"ImportError", "SyntaxError", "NameError", "UsageError"})
"""What a change that went wrong raises: it shows nothing about the bug."""


class Bug(msgspec.Struct, forbid_unknown_fields=True):
    """One entry; see the head of the catalogue."""

    id: str
    title: str
    harm: str
    found_by: str
    fixed_in: str
    regression: str
    reverse: list[Change]
    fails_with: str = "AssertionError"

    @property
    def is_simulated(self) -> bool:
        return self.regression.startswith(SIM)

    @property
    def replay(self) -> str:
        return f"python -m proof.museum --only {self.id}"


class Catalogue(msgspec.Struct, forbid_unknown_fields=True):
    bug: list[Bug]


def load(path: Path = CATALOG) -> list[Bug]:
    return msgspec.convert(tomllib.loads(path.read_text()), Catalogue).bug


def faults(bugs: Sequence[Bug], root: Path = ROOT) -> list[str]:
    """What is wrong with the form of the entries, without running any."""
    found = [fault for bug in bugs for fault in _faults_of(bug, root)]
    ids = [bug.id for bug in bugs]
    found += [f"{name}: the id is used twice" for name in set(ids) if ids.count(name) > 1]
    first: dict[tuple[Change, ...], str] = {}
    for bug in bugs:
        twin = first.setdefault(tuple(bug.reverse), bug.id)
        found += [f"{bug.id}: it is the same bug as {twin}"] if twin != bug.id else []
    return found


def _faults_of(bug: Bug, root: Path) -> Iterator[str]:
    if bug.harm not in HARMS:
        yield f"{bug.id}: {bug.harm!r} is none of {', '.join(HARMS)}"
    if not (bug.title and bug.found_by and bug.fixed_in and bug.reverse):
        yield f"{bug.id}: title, found_by, fixed_in and reverse are needed"
    if not bug.is_simulated and not is_test(bug.regression, root):
        yield f"{bug.id}: there is no test {bug.regression}"
    texts: dict[str, str] = {}
    for change in bug.reverse:
        try:
            text = texts.get(change.file) or (root / change.file).read_text()
            texts[change.file] = changed_text(text, change)
        except (OSError, TargetGone) as error:
            yield f"{bug.id}: {error}"


def is_test(node_id: str, root: Path = ROOT) -> bool:
    """Whether the file has a test function of this name; parameters are not looked at."""
    file, _, rest = node_id.partition("::")
    name = rest.rpartition("::")[2].partition("[")[0]
    path = root / file
    return path.is_file() and f"def {name}(" in path.read_text()


# --- trying one


class Verdict(msgspec.Struct):
    bug: Bug
    problem: str = ""
    """Why the museum cannot vouch for this bug; empty when it can."""
    shown_as: str = ""
    """What the regression says with the bug in place."""
    seconds: float = 0.0


def try_bug(bug: Bug, tree: Tree, *, passes_today: bool = False) -> Verdict:
    """The regression passes as the code is, and fails with the bug put back.

    `passes_today`: the first half has been seen already.
    """
    began_s = time.monotonic()
    verdict = Verdict(bug)
    try:
        verdict.problem = "" if passes_today else _problem_today(bug, tree)
        if not verdict.problem:
            with tree.changed(bug.reverse):
                verdict.problem, verdict.shown_as = _shown(bug, tree)
    except TargetGone as error:
        verdict.problem = f"the bug cannot be put back: {error}"
    verdict.seconds = round(time.monotonic() - began_s, 1)
    return verdict


def _problem_today(bug: Bug, tree: Tree) -> str:
    if bug.is_simulated:
        exit_code, output = _simulate(bug, tree)
        return "" if exit_code == 0 else f"fails as the code is: {_last_line(output)}"
    ended, output = _run_tests([bug.regression], tree)
    if not ended:
        return f"no test ran: {_last_line(output)}"
    failed = [end for end in ended if not end.passed]
    if failed:
        return f"fails as the code is: {failed[0].phase} {failed[0].message[:200]}"
    return _foreign(ended, tree)


def _shown(bug: Bug, tree: Tree) -> tuple[str, str]:
    """(problem, what was said) with the bug in place."""
    if bug.is_simulated:
        exit_code, output = _simulate(bug, tree)
        shown = exit_code == 1 and bug.fails_with in output
        return (
            "" if shown else f"the bug is back and the seed ends with {exit_code}"
        ), bug.fails_with
    ended, output = _run_tests([bug.regression], tree)
    if not ended:
        return f"with the bug no test ran: {_last_line(output)}", ""
    failed = [end for end in ended if not end.passed and end.phase == "call"]
    if not failed:
        return f"the bug is back and {bug.regression} does not notice", ""
    first = failed[0]
    said = ": ".join(filter(None, (first.errors[0], first.message.partition("\n")[0].strip())))
    if bug.fails_with not in first.errors or _NO_BUG & set(first.errors):
        return f"fails with {said}, and not with {bug.fails_with}", said
    return _foreign(ended, tree), said


def _foreign(ended: Sequence[Ended], tree: Tree) -> str:
    """Whether another headrace than the copy's was tested."""
    home = str(tree.root.resolve())
    strange = [end.package for end in ended if not end.package.startswith(home)]
    return f"the copy was not imported, but {strange[0]}" if strange else ""


def _simulate(bug: Bug, tree: Tree) -> tuple[int, str]:
    arguments = shlex.split(bug.regression)[1:]
    ran = tree.run(["-c", _SIM_MAIN, *arguments], _RUN_TIMEOUT_S)
    return ran.exit_code, ran.output


def _run_tests(names: Sequence[str], tree: Tree) -> tuple[list[Ended], str]:
    said = tree.root / ".probe.jsonl"
    said.unlink(missing_ok=True)
    options = ["-q", "--no-header", "-p", "proof.museum_probe", "-p", "no:cacheprovider"]
    # The marker is emptied since a regression may be long; a fixed seed keeps it the same.
    options += ["-m", "", "--hypothesis-seed=0", f"--timeout={TEST_TIMEOUT_S}"]
    ran = tree.run(["-m", "pytest", *options, *names], _RUN_TIMEOUT_S, {PROBE_FILE: str(said)})
    lines = said.read_bytes().splitlines() if said.exists() else []
    return [msgspec.json.decode(line, type=Ended) for line in lines], ran.output


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:200] if lines else "nothing was said"


# --- trying all


def passing_today(bugs: Sequence[Bug], tree: Tree) -> set[str]:
    """Regressions that pass as the code is, seen in one run of all.

    What is missing may pass all the same, by itself: it is to be asked again.
    """
    names = list(dict.fromkeys(bug.regression for bug in bugs if not bug.is_simulated))
    ended, _ = _run_tests(names, tree)
    if not ended or _foreign(ended, tree):
        return set()
    outcomes: dict[str, bool] = {}
    for end in ended:
        for name in (end.test, end.test.partition("[")[0]):
            outcomes[name] = outcomes.get(name, True) and end.passed
    return {name for name in names if outcomes.get(name)}


def try_all(bugs: Sequence[Bug], jobs: int, stopping: Stopping) -> Iterator[Verdict]:
    """In the order of the catalogue, `jobs` at a time; ends early when it is told to stop."""
    with copies(ROOT, jobs) as trees, ThreadPoolExecutor(jobs) as pool:
        free: SimpleQueue[Tree] = SimpleQueue()
        for tree in trees:
            free.put(tree)
        passing = passing_today(bugs, trees[0]) if len(bugs) > 1 else set()

        def take(bug: Bug) -> Verdict | None:
            if stopping.is_due:
                return None
            tree = free.get()
            try:
                return try_bug(bug, tree, passes_today=bug.regression in passing)
            finally:
                free.put(tree)

        for verdict in pool.map(take, bugs):
            if verdict is not None:
                yield verdict


def note(result: Result, verdict: Verdict) -> None:
    bug = verdict.bug
    result.counts["bugs"] = result.counts.get("bugs", 0) + 1
    if verdict.problem:
        result.failures.append(f"{bug.id}: {verdict.problem} — {bug.replay}")
    else:
        result.details[bug.id] = {
            "shown_as": verdict.shown_as[:200],
            "seconds": int(verdict.seconds),
        }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m proof.museum", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="ID")
    parser.add_argument("--cases", type=int, default=0, help="so many bugs; 0: all")
    parser.add_argument("--seed-from", type=int, default=0, help="number of the first bug")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--budget-s", type=float, default=0.0, help="0: no limit")
    given = parser.parse_args(arguments)
    bugs = [bug for bug in load() if not given.only or bug.id in given.only]
    bugs = bugs[given.seed_from :][: given.cases or None]
    problems = faults(bugs)
    with Stopping(given.budget_s) as stopping, recorded("museum", "python -m proof.museum") as kept:
        kept.failures += problems
        sound = [bug for bug in bugs if not faults([bug])]
        for verdict in try_all(sound, given.jobs, stopping):
            note(kept, verdict)
            print(f"{verdict.bug.id}: {verdict.problem or verdict.shown_as}", flush=True)
        tried = kept.counts.get("bugs", 0)
        if tried < len(sound):
            kept.notes.append(f"the time was over after {tried} of {len(sound)} bugs")
    print(f"{kept.counts.get('bugs', 0)} of {len(bugs)} bugs, {len(kept.failures)} failures")
    for failure in kept.failures:
        print(failure)
    return 1 if kept.failures else 0


if __name__ == "__main__":
    sys.exit(main())
