"""The page of evidence: made of results alone, and true to the tree that it speaks of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proof import evidence
from proof.museum import is_test
from proof.page import page
from proof.parts import PARTS
from proof.result import ROOT
from tests.unit.proof.golden_evidence import GOLDEN, result, sample


def test_page_of_known_results_is_as_it_was_reviewed() -> None:
    assert page(sample()) == GOLDEN.read_text()


def test_page_in_the_tree_is_what_its_results_say() -> None:
    """Nobody has written on it, and it knows the catalogues of today: else `make evidence`."""
    assert evidence.PAGE.read_text() == page(evidence.sources(evidence.published()))


def test_failures_of_the_newest_commit_are_shown_and_older_ones_counted() -> None:
    text = page(sample())

    assert "0 (1 before)" in text
    assert "- mutants: no-matter survived" in text
    assert "seed 7 broke I4" not in text


def test_promise_without_results_is_not_said_to_be_tested() -> None:
    nothing = sample()
    nothing.results = []
    text = page(nothing)

    assert "Nothing was run yet." in text
    assert "not run" in section(text, "How much was run")
    assert section(text, "Mutants").endswith("Not run.")


def test_promises_name_only_checkers_and_tests_that_exist() -> None:
    named = re.findall(
        r"`([^`]+)`",
        section(page(evidence.sources([])), "How each promise is tested"),
    )
    checkers = {judge.name for judge in evidence.judges()}
    strange = [name for name in named if name not in checkers and not exists(name)]

    assert strange == []
    assert len(named) > 2 * len(evidence.promises())


def test_every_checker_judges_a_promise_of_the_page() -> None:
    promised = {name for promise in evidence.promises() for name in promise.invariants}
    clauses = {clause for promise in evidence.promises() for clause in promise.clauses}
    idle = [
        judge.name
        for judge in evidence.judges()
        if not promised & set(judge.invariants) and not clauses & set(judge.clauses)
    ]
    assert idle == []


def test_every_clause_that_one_node_can_keep_is_promised_and_judged() -> None:
    promised = {clause for promise in evidence.promises() for clause in promise.clauses}
    judged = {clause for judge in evidence.judges() for clause in judge.clauses}

    assert promised - {0} == {1, 2, 3, 4, 5, 8}
    assert judged >= promised - {0}


def test_only_results_of_committed_code_of_our_history_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evidence, "_is_ancestor", lambda older, newer: older < newer)
    evidence._counts.cache_clear()
    results = [
        result(part, commit, 1, run="of make prove")
        for part, commit in [
            ("wal", "AAAA"),
            ("wal", "AAAA+"),
            ("wal", ""),
            ("wal", "ZZZZ"),
            ("something else", "AAAA"),
        ]
    ]
    try:
        assert evidence.chosen([*results, results[0]], "") == [results[0]]
        alone = result("wal", "AAAA", 1)
        assert evidence.chosen([alone], "") == []
        assert evidence.chosen([alone], "", by_hand=True) == [alone]
        assert evidence.chosen(results, "BBBB") == []
    finally:
        evidence._counts.cache_clear()


def test_what_is_the_same_in_each_run_is_not_added_up() -> None:
    volumes = section(page(sample()), "How much was run")

    assert "| 3,000 seeds, 900,000 operations |" in volumes
    assert "| 100 calls |" in volumes  # of the newest run that was not cut short
    assert "| 110 cases of vectors, 110 cases of the search |" in volumes
    assert "in the newest run: 95 inputs taken" in volumes


def test_page_says_whether_the_simulator_is_as_quick_as_it_was_meant_to_be() -> None:
    slow, quick = sample(), sample()
    for one in quick.results:
        one.seconds = 1.0

    assert "a second and processor, is **missed**: on its newest commit it did 6,667" in page(slow)
    assert "a second and processor, is **reached**" in page(quick)


def test_each_run_is_shown_with_the_command_that_does_its_cases_again() -> None:
    rows = section(page(sample()), "Run it again").splitlines()

    (row,) = [row for row in rows if row.startswith("| simulation | `aaaaaaaaaa` |")]
    assert "--seeds 1000 --seed-from 1000 --budget-s" in row
    assert row.endswith("| 1,000 seeds | 90 | 1 |")
    assert sum("`aaaaaaaaaa`" in row or "`bbbbbbbbbb`" in row for row in rows) == len(
        sample().results
    )


def test_every_invariant_that_is_named_is_explained() -> None:
    text = page(evidence.sources(evidence.published()))
    explained = {one.id for one in evidence.invariants()}

    assert set(re.findall(r"\bI\d+\b", text)) == explained
    assert explained == {f"I{number}" for number in range(1, 16)}


def test_exception_that_ended_a_run_is_not_passed_off_as_a_checker() -> None:
    caught = sample()
    caught.results[-3].details["any-token"]["caught by"] = "simulation: LogGap"
    (row,) = [one for one in page(caught).splitlines() if "the exception that a run ended" in one]

    assert "(`LogGap`)" in row


def test_each_part_says_how_it_is_run_again() -> None:
    commands = section(page(sample()), "Run it again")

    assert all(f"`{part.shown}`" in commands for part in sample().parts)
    assert all(part.shown and part.says and part.ci for part in PARTS)


def section(text: str, title: str) -> str:
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0].strip()


def exists(name: str) -> bool:
    return is_test(name) if "::" in name else (Path(ROOT) / name).exists()
