"""What one run of one part of the proof found: the one form in which evidence is kept.

Results are lines of JSON in `.proof/results.jsonl`; the page of evidence is made of them
and of nothing else.
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(os.environ.get("HEADRACE_PROOF_DIR", ROOT / ".proof")) / "results.jsonl"

RUN = "HEADRACE_PROOF_RUN"
"""Environment variable that names the run of `make prove` to its parts."""


class Result(msgspec.Struct, kw_only=True):
    """One run of one part."""

    part: str
    """Stable name, such as `simulation`, `explorer`, `n-loop`, `fuzz`, `mutants`."""
    command: str
    """What a reader types to run it again."""
    commit: str = ""
    """Of the tree that ran; with `+` when it had changes, or was changed meanwhile."""
    machine: str = ""
    """Class of the machine: processors, Python, kernel."""
    run: str = ""
    """Of `make prove`, when that started it."""
    began_at: str = ""
    seconds: float = 0.0
    counts: dict[str, int] = {}
    """What was run and what befell it: seeds, operations, crashes, faults, jobs…"""
    failures: list[str] = []
    """One line each: what broke, and the command that shows it."""
    notes: list[str] = []
    """What did not run here, and why."""
    details: dict[str, dict[str, str | int]] = {}
    """Rows for a table of the part's own, by name (for mutants: checker, seeds)."""


@contextmanager
def recorded(part: str, command: str) -> Iterator[Result]:
    """The block fills in the result; it is kept when the block ends, however it ends."""
    result = Result(part=part, command=command, commit=commit_name(), machine=machine_class())
    result.run = os.environ.get(RUN, "")
    result.began_at = datetime.now(UTC).isoformat(timespec="seconds")
    began_s = time.monotonic()
    try:
        yield result
    except BaseException as error:
        result.failures.append(f"{type(error).__name__}: {error}")
        raise
    finally:
        result.seconds = round(time.monotonic() - began_s, 1)
        if commit_name() != result.commit:
            result.commit = f"{result.commit.removesuffix('+')}+"
        keep(result)


def keep(result: Result) -> None:
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with RESULTS.open("ab") as file:
        file.write(msgspec.json.encode(result) + b"\n")


def kept() -> list[Result]:
    """All results, oldest first."""
    if not RESULTS.exists():
        return []
    return [msgspec.json.decode(line, type=Result) for line in RESULTS.read_bytes().splitlines()]


def machine_class() -> str:
    release = platform.release().partition("-")[0]
    system = f"{platform.system()} {release} {platform.machine()}"
    return f"{os.cpu_count()} processors, Python {platform.python_version()}, {system}"


def commit_name() -> str:
    """Short hash of HEAD, with `+` when the tree differs from it; `` outside a clone.

    A file that git does not know is a difference: Python imports it like any other.
    """
    short = _git("rev-parse", "--short=10", "HEAD")
    return short + ("+" if short and _git("status", "--porcelain", "-unormal") else "")


def _git(*arguments: str) -> str:
    found = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() if found.returncode == 0 else ""
