"""The bug museum: each entry can be put back, and is noticed. All of it: `make museum`."""

from __future__ import annotations

import msgspec
import pytest

from proof.museum import Bug, faults, load, try_bug
from proof.result import ROOT
from proof.trees import Change, Tree

BUGS = {bug.id: bug for bug in load()}
QUICK = BUGS["stale-ack-answered-like-the-live-one"]


def test_every_entry_names_its_bug_its_fix_its_test_and_a_change_that_applies() -> None:
    """A change whose target is gone shows nothing: adapt it to the code of today."""
    assert faults(load()) == []
    assert len(BUGS) >= 40


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return Tree(ROOT, tmp_path_factory.mktemp("copy") / "tree")


def test_bug_that_is_put_back_is_noticed(tree: Tree) -> None:
    verdict = try_bug(QUICK, tree)

    assert verdict.problem == ""
    assert verdict.shown_as.startswith("AssertionError")
    for change in QUICK.reverse:
        assert (tree.root / change.file).read_text() == (ROOT / change.file).read_text()


GRANTED = "    if granted:\n        turn.emit(JobsSucceeded"
REVERSED = (QUICK.reverse[0].old, QUICK.reverse[0].new)


@pytest.mark.parametrize(
    ("reverse", "fails_with", "problem"),
    [
        ((GRANTED, GRANTED), "AssertionError", "does not notice"),
        (REVERSED, "TimeoutError", "not with TimeoutError"),
        (("def ack(", "def ack(:"), "Exception", "no test ran"),
        (("nowhere to be found", ""), "AssertionError", "0 times"),
    ],
    ids=["nobody notices", "another error", "does not compile", "target gone"],
)
def test_museum_does_not_vouch_for_what_shows_nothing(
    tree: Tree, reverse: tuple[str, str], fails_with: str, problem: str
) -> None:
    bug: Bug = msgspec.structs.replace(
        QUICK, fails_with=fails_with, reverse=[Change(QUICK.reverse[0].file, *reverse)]
    )
    assert problem in try_bug(bug, tree).problem


def test_test_that_fails_without_the_bug_shows_nothing(tree: Tree) -> None:
    file, name = QUICK.regression.split("::")
    path = tree.root / file
    text = path.read_text()
    try:
        path.write_text(text + f"\n\ndef {name}() -> None:\n    assert False\n")
        assert "fails as the code is" in try_bug(QUICK, tree).problem
    finally:
        path.write_text(text)
