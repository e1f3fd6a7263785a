"""One catcher on one copy of the tree: did it fail, after how much, and in which words.

Output goes to a file: a grandchild that lives on would hold a pipe open for ever.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from pathlib import Path
from typing import Literal

import msgspec

from proof.children import python
from proof.mutants.mutant import Catcher

_LOOK_S = 0.1
_SAYS_MAX = 300
_SEED = re.compile(r"\bseed[ :=]+(\d+)")
_CHECKER = re.compile(r"seed \d+: (?:.*?: )??([A-Z][a-z]+[A-Z]\w*): ")
_PASSED = re.compile(r"\b(\d+) passed\b")
_PROGRESS = re.compile(r"^[.sxFE]+", re.MULTILINE)
_FAILED = re.compile(r"^(?:FAILED|ERROR) (.*)$|^(\+{3,} Timeout).*$", re.MULTILINE)


class Tried(msgspec.Struct, frozen=True):
    outcome: Literal["passed", "failed", "hung", "stopped", "broken"]
    """`hung`: it ran into its limit. `broken`: it ended, but not by judging."""
    count: int = 0
    """Tests or seeds, as the catcher counts, that went by, the failing one included."""
    says: str = ""
    checker: str = ""
    """The part of a harness that spoke, where it gives its name."""
    seconds: float = 0.0


def try_catcher(catcher: Catcher, root: Path, scratch: Path, stop: threading.Event) -> Tried:
    """The catcher has run in the tree at `root`. Its files are left in `scratch`."""
    scratch.mkdir(exist_ok=True)
    output = scratch / "output"
    environ = {
        **os.environ,
        "PYTHONPATH": os.fspath(root / "src"),
        "PYTHONHASHSEED": "0",
        "HEADRACE_PROOF_DIR": os.fspath(scratch),
        "HYPOTHESIS_STORAGE_DIRECTORY": os.fspath(scratch / "hypothesis"),
    }
    began_s = time.monotonic()
    with (
        output.open("wb") as file,
        python(catcher.command, cwd=root, environ=environ, output=file) as process,
    ):
        ended = _wait(process, began_s + catcher.limit_s, stop)
    seconds = round(time.monotonic() - began_s, 1)
    text = output.read_text(encoding="utf-8", errors="replace")
    if not ended:
        return Tried("stopped" if stop.is_set() else "hung", seconds=seconds)
    return _judged(catcher, process.returncode, text, seconds)


def _wait(process: subprocess.Popen[bytes], until_s: float, stop: threading.Event) -> bool:
    """False when its time was over, or ours."""
    while time.monotonic() < until_s and not stop.is_set():
        try:
            process.wait(_LOOK_S)
        except subprocess.TimeoutExpired:
            continue
        return True
    return False


def _judged(catcher: Catcher, exit_code: int, text: str, seconds: float) -> Tried:
    if exit_code == 0:
        return Tried("passed", seconds=seconds)
    if exit_code != 1:
        says = f"exit code {exit_code}: {_last_line(text)}"
        return Tried("broken", says=says, seconds=seconds)
    says = _words(text)
    checker = _CHECKER.match(says)
    return Tried("failed", _count(catcher, text), says, checker[1] if checker else "", seconds)


def _count(catcher: Catcher, text: str) -> int:
    seed = _SEED.search(text)
    if catcher.counts != "tests" and seed is not None:
        return int(seed[1]) + 1
    passed = _PASSED.search(text)
    if passed is None:  # it was ended before its summary: the dots are left
        return sum(str(line).count(".") for line in _PROGRESS.findall(text)) + 1
    return int(passed[1]) + 1


def _words(text: str) -> str:
    found = _FAILED.search(text)
    return (found[1] or "a test took too long" if found else _last_line(text))[:_SAYS_MAX]


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""
