"""What a result says of the tree that it is of."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import proof.result
from proof.result import commit_name, kept, recorded


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of one commit, which results are of, and kept beside."""
    tree = tmp_path / "clone"
    tree.mkdir()
    monkeypatch.setattr(proof.result, "ROOT", tree)
    monkeypatch.setattr(proof.result, "RESULTS", tmp_path / "results.jsonl")
    (tree / "code.py").write_text("one = 1\n")
    (tree / ".gitignore").write_text("/.proof/\n")
    git(tree, "init", "--quiet")
    commit(tree)
    return tree


def git(tree: Path, *arguments: str) -> None:
    who = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
    subprocess.run(["git", *who, *arguments], cwd=tree, check=True, capture_output=True)


def commit(tree: Path) -> None:
    git(tree, "add", ".")
    git(tree, "commit", "--quiet", "--message", "a change")


def test_result_of_a_clean_tree_names_its_commit(clone: Path) -> None:
    with recorded("wal", "command"):
        (clone / ".proof").mkdir()
        (clone / ".proof" / "wal.log").write_text("what git ignores is no change")

    assert kept()[0].commit == commit_name()
    assert not commit_name().endswith("+")


@pytest.mark.parametrize("name", ["code.py", "unknown.py"])
def test_tree_with_a_changed_or_an_unknown_file_is_no_commit(clone: Path, name: str) -> None:
    (clone / name).write_text("one = 2\n")

    assert commit_name().endswith("+")


@pytest.mark.parametrize("name", ["code.py", "unknown.py"])
def test_tree_that_changed_while_it_ran_is_no_commit(clone: Path, name: str) -> None:
    began_with = commit_name()
    with recorded("wal", "command"):
        (clone / name).write_text("one = 2\n")

    assert kept()[0].commit == f"{began_with}+"


def test_tree_that_got_another_commit_while_it_ran_is_neither(clone: Path) -> None:
    began_with = commit_name()
    with recorded("wal", "command"):
        (clone / "code.py").write_text("one = 2\n")
        commit(clone)

    assert kept()[0].commit == f"{began_with}+"


def test_result_outside_a_clone_names_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof.result, "ROOT", tmp_path)
    monkeypatch.setattr(proof.result, "RESULTS", tmp_path / "results.jsonl")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with recorded("wal", "command"):
        pass

    assert kept()[0].commit == ""
