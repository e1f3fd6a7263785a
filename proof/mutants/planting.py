"""One mutant in a copy of the tree, where it says when the mutated place is run.

The mark goes in front of the innermost statement, of a function, that the change touches. So
a mutant that no check ever executes is told from one that checks execute and do not notice.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proof.mutants.mutant import Mutant
from proof.result import ROOT
from proof.trees import Change, TargetGone, Tree, changed_text

PACKAGE = "src/headrace"
_MARK = '__import__("headrace._reached", fromlist=["mark"]).mark()'
_REACHED = '''"""Says once per process that the mutated place was run."""

import os

_said = False


def mark():
    global _said
    if not _said:
        _said = True
        os.close(os.open({path!r}, os.O_CREAT | os.O_WRONLY, 0o600))
'''


class Bed:
    """A copy of the tree that takes one mutant at a time."""

    def __init__(self, directory: Path) -> None:
        self._tree = Tree(ROOT, directory / "tree")
        self._mark = directory / "reached"
        reached = _REACHED.format(path=os.fspath(self._mark))
        (self._tree.root / PACKAGE / "_reached.py").write_text(reached)
        self.root = self._tree.root
        self.scratch = directory / "scratch"

    @contextmanager
    def planted(self, mutant: Mutant) -> Iterator[None]:
        """Inside the block the copy has the mutant, not reached yet. Raises: `TargetGone`."""
        text = read_target(mutant, self.root)
        self._mark.unlink(missing_ok=True)
        file = f"{PACKAGE}/{mutant.path}"
        with self._tree.changed([Change(file, text, mutated(text, mutant))]):
            yield

    @property
    def reached(self) -> bool:
        """The place of the mutant planted last has been run."""
        return self._mark.exists()


def read_target(mutant: Mutant, root: Path = ROOT) -> str:
    """The file that the mutant changes, as it is. Raises: `TargetGone`."""
    try:
        return (root / PACKAGE / mutant.path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise TargetGone(f"{mutant.path} is gone") from error


def mutated(text: str, mutant: Mutant) -> str:
    """The changed file, marked. Raises: `TargetGone`; `SyntaxError`."""
    changed = changed_text(text, Change(mutant.path, mutant.old, mutant.new))
    if mutant.reached_at:
        changed_text(changed, Change(mutant.path, mutant.reached_at, ""))
        line = _line_of(changed, changed.index(mutant.reached_at))
        return _marked(changed, _statement(changed, line, mutant))
    # Nothing before the change has moved, so the statement is looked for where it still stands.
    start = text.index(mutant.old)
    line = min(
        _line_of(text, start + _same(mutant.old, mutant.new)),
        _line_of(text, start + len(mutant.old.rstrip("\n")) - 1),
    )
    return _marked(changed, _statement(text, line, mutant))


def _same(old: str, new: str) -> int:
    """Length of what both begin with, in whole lines."""
    same = 0
    for before, after in zip(old.splitlines(True), new.splitlines(True), strict=False):
        if before != after:
            break
        same += len(before)
    return same


def _line_of(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def _statement(text: str, line: int, mutant: Mutant) -> ast.stmt:
    """The innermost statement of a function around that line, fit to have one before it."""
    found: ast.stmt | None = None
    waiting: list[tuple[ast.AST, bool]] = [(ast.parse(text), False)]
    while waiting:
        node, in_function = waiting.pop()
        inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt) and not _spans(child, line):
                continue
            waiting.append((child, inside))
            if isinstance(child, ast.stmt) and inside and not _is_elif(text, child):
                found = child
    if found is None:
        raise TargetGone(f"line {line} of {mutant.path} is in no function: say `reached_at`")
    return found


def _spans(statement: ast.stmt, line: int) -> bool:
    return statement.lineno <= line <= (statement.end_lineno or statement.lineno)


def _is_elif(text: str, statement: ast.stmt) -> bool:
    return text.splitlines()[statement.lineno - 1].lstrip().startswith("elif ")


def _marked(text: str, statement: ast.stmt) -> str:
    lines = text.splitlines(keepends=True)
    mark = " " * statement.col_offset + _MARK + "\n"
    marked = "".join([*lines[: statement.lineno - 1], mark, *lines[statement.lineno - 1 :]])
    ast.parse(marked)
    return marked
