"""Commands of the proof that a page shows are taken as they stand, and do what they are told."""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
import sys
from collections.abc import Sequence

import pytest

from proof.stopping import Stopping
from tests.unit.test_docs import FENCE, PAGES

COMMAND = re.compile(r"(?:\.venv/bin/)?python -m (proof\.[^`\n#]+)")
NEVER = float("inf")


class Taken(Exception):
    """The arguments were taken; nothing is to be run."""


def commands() -> list[tuple[str, str]]:
    """(page, what follows `-m`), of blocks and of sentences."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = "\n".join(block for _, block in FENCE.findall(text))
        spans = "\n".join(re.findall(r"`([^`\n]+)`", FENCE.sub("", text)))
        found += [(page.name, one.strip()) for one in COMMAND.findall(f"{blocks}\n{spans}")]
    return found


def fault_of(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Why the module would not take its arguments; empty when it would."""
    parse = argparse.ArgumentParser.parse_args

    def parse_only(parser: argparse.ArgumentParser, *given: Sequence[str]) -> None:
        parse(parser, *given)
        raise Taken

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
        patch.setattr(sys, "argv", list(words))
        # A module that is imported already would be run beside itself, with a warning.
        for name in [name for name in sys.modules if name == words[0] or name.endswith("__main__")]:
            if name.startswith("proof."):
                patch.delitem(sys.modules, name)
        try:
            runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        except Taken:
            return ""
        except ImportError as error:
            return str(error)
        except SystemExit as error:
            return f"exit code {error.code}"
    return "it looks at no arguments"


def test_every_command_of_the_proof_on_a_page_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    found = commands()
    assert {page for page, _ in found} >= {"evidence.md"}
    assert len(found) >= 10
    faults = [
        f"{page}: {command}: {fault}"
        for page, command in dict.fromkeys(found)
        if (fault := fault_of(shlex.split(command), monkeypatch))
    ]
    assert faults == []


@pytest.mark.parametrize(
    ("command", "is_taken"),
    [
        ("proof.fuzz wal --cases 5", True),
        ("proof.fuzz something --cases 5", False),
        ("proof.explorer --trace 3 --prefix 2 --state 1", True),
        ("proof.explorer --traces many", False),
        ("proof.simulation --seeds 3 --lives 5", False),
        ("proof.nothing --seeds 3", False),
        ("proof.parts --seeds 3", False),
    ],
)
def test_command_that_nobody_can_type_is_found(
    command: str, is_taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (fault_of(shlex.split(command), monkeypatch) == "") is is_taken


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("proof.explorer.__main__", ["--traces", "2000"]),
        ("proof.n_loop.__main__", []),
        ("proof.fuzz.__main__", ["wal", "--cases", "500000"]),
    ],
)
def test_command_with_a_count_has_no_limit_of_time(module: str, words: list[str]) -> None:
    options = __import__(module, fromlist=["parse"]).parse(words)

    assert Stopping(options.budget_s).left_s == NEVER


def test_a_budget_of_no_time_at_all_is_none_and_a_small_one_ends() -> None:
    assert not Stopping(0).is_due
    assert Stopping(1e-9).is_due
