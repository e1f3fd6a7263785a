"""What the documents name is there: commands, tests, settings, Python that compiles."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from headrace.cli import nouns
from headrace.model.settings import fields, sections

ROOT = Path(__file__).parents[2]
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "spec").glob("*.md"),
    ROOT / "examples" / "README.md",
]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`(headrace [a-z][^`…]*)`")
ELLIPSIS = ("COMMAND", "…", "...")


def commands() -> Iterator[tuple[Path, str]]:
    """Each `headrace` command of a page, in a block or in a sentence."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for language, block in FENCE.findall(text):
            if language == "sh":
                lines = (line.strip() for line in block.splitlines())
                yield from ((page, line) for line in lines if line.startswith("headrace "))
        yield from ((page, found) for found in SPAN.findall(FENCE.sub("", text)))


def blocks() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
            if language == "python":
                yield page, block


def fault_of(command: str) -> str:
    """Why the program would not take it; empty when it would."""
    _, name, *arguments = shlex.split(command, comments=True)
    noun = nouns.find(name)
    if noun is None:
        return f"no command {name!r}"
    try:
        importlib.import_module(noun.module).app.parse_args(arguments)
    except CycloptsError as error:
        # A sentence names a command without what it works on.
        missing = "requires an argument" in str(error) or "Missing" in type(error).__name__
        return "" if missing else str(error)
    return ""


def test_every_command_of_a_page_can_be_typed_as_it_stands() -> None:
    found = list(commands())
    assert len(found) > 50
    faults = [
        f"{page.relative_to(ROOT)}: {command}: {fault}"
        for page, command in found
        if not any(word in command for word in ELLIPSIS) and (fault := fault_of(command))
    ]
    assert faults == []


@pytest.mark.parametrize(
    ("command", "is_taken"),
    [
        ("headrace queue set mail --attempt-max 3", True),
        ("headrace queue set mail --attempts 3", False),
        ("headrace job list --nothing", False),
        ("headrace jobs list", False),
        ("headrace job show  # of one", True),
    ],
)
def test_command_that_nobody_can_type_is_found(command: str, is_taken: bool) -> None:
    assert (fault_of(command) == "") is is_taken


def test_every_test_that_a_page_names_is_there() -> None:
    there = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    for path in (ROOT / "tests").rglob("test_*.py"):
        there |= set(re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8")))
    missing = [
        f"{page.relative_to(ROOT)}: {name}"
        for page in PAGES
        for name in re.findall(r"\btest_\w+(?:\.py)?\b(?!\*)", page.read_text(encoding="utf-8"))
        if name not in there and f"{name}.py" not in there and name != "test_golden"
    ]
    assert missing == []


def test_every_setting_that_a_page_names_is_there() -> None:
    there = {f"{name}.{field}" for name, section in sections().items() for field in fields(section)}
    wanted = re.compile(rf"`((?:{'|'.join(sections())})\.[a-z_]+)`")
    named = {name for page in PAGES for name in wanted.findall(page.read_text(encoding="utf-8"))}
    assert {name for name in named if not name.endswith((".py", ".md"))} - there == set()


def test_python_of_every_page_compiles() -> None:
    found = list(blocks())
    assert len(found) > 5
    for page, block in found:
        compile(block, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
