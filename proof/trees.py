"""Copies of the working tree, in which code may be changed and tests run.

A copy holds everything that the tests need, so that a child process started by a test
imports the copy, too. The working tree itself is never changed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from proof.children import python

_NOWHERE = frozenset({".git", ".venv", ".venvs", ".proof", ".hypothesis", "__pycache__"})
_NOT_AT_THE_TOP = frozenset({"data", "build", "dist"})
"""What `make` leaves there; below, folders of these names are of the project."""


class Change(msgspec.Struct, frozen=True):
    """A small change of one source file."""

    file: str
    old: str
    """Occurs exactly once in the file."""
    new: str


class TargetGone(Exception):
    """The text to be changed is not in the file exactly once: the change must be adapted."""


class Ran(msgspec.Struct):
    exit_code: int
    output: str
    """Of both streams, together."""


class Tree:
    """A copy of `source` in `root`."""

    def __init__(self, source: Path, root: Path) -> None:
        self.root = root

        def left_out(folder: str, names: list[str]) -> list[str]:
            at_the_top = Path(folder) == source
            return [
                name
                for name in names
                if name in _NOWHERE
                or name.endswith(("_cache", ".egg-info"))
                or (at_the_top and name in _NOT_AT_THE_TOP)
            ]

        shutil.copytree(source, root, ignore=left_out, symlinks=True)

    @contextmanager
    def changed(self, changes: Sequence[Change]) -> Iterator[None]:
        """Inside the block the files of the copy are changed. Raises: `TargetGone`."""
        before: dict[Path, str] = {}
        try:
            for change in changes:
                path = self.root / change.file
                text = path.read_text()
                before.setdefault(path, text)
                self._write(path, changed_text(text, change))
            yield
        finally:
            for path, text in before.items():
                self._write(path, text)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text)
        # Compiled files are told apart by second and size only.
        Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)

    def run(
        self, arguments: Sequence[str], timeout_s: float, extra: Mapping[str, str] | None = None
    ) -> Ran:
        """`python ARGUMENTS` with the copy's headrace; what outlives `timeout_s` is killed."""
        environment = {**os.environ, **(extra or {}), "PYTHONPATH": str(self.root / "src")}
        environment["HEADRACE_PROOF_DIR"] = str(self.root / ".proof")
        pipe = subprocess.PIPE
        with python(arguments, cwd=self.root, environ=environment, output=pipe) as process:
            try:
                output, _ = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                return Ran(-signal.SIGKILL, f"nothing came of it in {timeout_s:.0f} s")
            return Ran(process.returncode, output.decode(errors="replace"))


def changed_text(text: str, change: Change) -> str:
    """Raises: `TargetGone`."""
    count = text.count(change.old)
    if count != 1:
        raise TargetGone(f"{change.file} has the text to be changed {count} times, not once")
    return text.replace(change.old, change.new)


@contextmanager
def copies(source: Path, count: int) -> Iterator[list[Tree]]:
    """So many copies of the tree, gone after the block."""
    with tempfile.TemporaryDirectory(prefix="headrace-proof-") as directory:
        yield [Tree(source, Path(directory) / str(number)) for number in range(count)]
