"""`make evidence`: which results count, and the page that is made of them.

The results that the page stands on are kept beside it, in `published.jsonl`, so that anybody
can make the page again without running anything, and see that nobody has touched it.

Must never take results of a tree with changes, nor of commits that are not in its history.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

import msgspec

from headrace.sim.checkers import ALL, NOT_APPLICABLE
from proof import museum
from proof.page import Gap, Invariant, Judge, Promise, Sources, page
from proof.parts import PARTS
from proof.result import ROOT, Result, kept

PAGE = ROOT / "docs" / "evidence.md"
PUBLISHED = ROOT / "proof" / "published.jsonl"
PROMISES = ROOT / "proof" / "promises.toml"
NOT_COVERED = ROOT / "proof" / "not_covered.toml"

Row = TypeVar("Row", Promise, Invariant, Gap)


def judges() -> list[Judge]:
    """All checkers, by name."""
    found = [Judge(one.name(), one.invariants, one.clauses, one.promise) for one in ALL.values()]
    return sorted(found, key=lambda judge: judge.name)


def promises() -> list[Promise]:
    return _rows(PROMISES, "promise", Promise)


def invariants() -> list[Invariant]:
    return _rows(PROMISES, "invariant", Invariant)


def gaps() -> list[Gap]:
    unjudged = [Gap(f"No checker for {name}", why) for name, why in NOT_APPLICABLE.items()]
    return [*_rows(NOT_COVERED, "gap", Gap), *unjudged]


def _rows(path: Path, name: str, kind: type[Row]) -> list[Row]:
    return msgspec.convert(tomllib.loads(path.read_text())[name], list[kind])  # type: ignore[valid-type]


def sources(results: Iterable[Result]) -> Sources:
    """These results, of the oldest commit first, with the catalogues as they are."""
    return Sources(
        results=list(results),
        promises=promises(),
        invariants=invariants(),
        judges=judges(),
        bugs=museum.load(),
        gaps=gaps(),
        parts=PARTS,
    )


# --- which results count


def published() -> list[Result]:
    if not PUBLISHED.exists():
        return []
    return [msgspec.json.decode(line, type=Result) for line in PUBLISHED.read_bytes().splitlines()]


def chosen(results: Iterable[Result], since: str, *, by_hand: bool = False) -> list[Result]:
    """Results of `make prove` on commits from `since` on that are in our history.

    `by_hand`: also of parts that somebody started alone, such as to look for one failure.
    What is given twice counts once: one command has one result a moment, and the first holds.
    """
    names = {part.name for part in PARTS}
    found: dict[tuple[str, ...], Result] = {}
    for result in results:
        is_meant = result.part in names and (result.run or by_hand)
        if is_meant and _counts(result.commit, since):
            found.setdefault((result.run, result.command, result.began_at), result)
    return sorted(found.values(), key=lambda result: (_age(result.commit), result.began_at))


@cache
def _age(commit: str) -> int:
    """How many commits lead to it: runs of two commits may overlap in time."""
    ran = subprocess.run(
        ["git", "rev-list", "--count", commit],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return int(ran.stdout or 0)


@cache
def _counts(commit: str, since: str) -> bool:
    if not commit or commit.endswith("+") or not _is_ancestor(commit, "HEAD"):
        return False
    return not since or _is_ancestor(since, commit)


def _is_ancestor(older: str, newer: str) -> bool:
    ran = subprocess.run(
        ["git", "merge-base", "--is-ancestor", older, newer],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    return ran.returncode == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """1 with `--check` when the page is not what its results say."""
    parser = argparse.ArgumentParser(prog="python -m proof.evidence", description="The page.")
    parser.add_argument("--since", default="", metavar="COMMIT", help="leave out older results")
    parser.add_argument("--by-hand", action="store_true", help="parts that were started alone, too")
    parser.add_argument("--check", action="store_true", help="write nothing; is the page true?")
    given = parser.parse_args(arguments)
    if given.check:
        is_true = PAGE.exists() and PAGE.read_text() == page(sources(published()))
        print("as its results say" if is_true else "docs/evidence.md: run `make evidence`")
        return 0 if is_true else 1
    found = [*published(), *kept()]
    results = chosen(found, given.since, by_hand=given.by_hand)
    PUBLISHED.write_bytes(b"".join(msgspec.json.encode(result) + b"\n" for result in results))
    PAGE.write_text(page(sources(results)))
    print(f"{PAGE.relative_to(ROOT)}: {len(results)} results")
    changed = sum(result.commit.endswith("+") for result in found)
    print(f"left out: {changed} of trees with changes, which nobody could run again")
    return 0


if __name__ == "__main__":
    sys.exit(main())
