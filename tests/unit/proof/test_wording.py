"""Counts in words: grouped, and never hidden by being unknown."""

from __future__ import annotations

from proof import evidence
from proof.parts import PARTS
from proof.wording import WORDS, in_words


def test_counts_are_grouped_and_told_in_words() -> None:
    counts = {"cut": 5, "stopped E-WAL-GAP, repaired": 2, "tail lost within the lag": 0}

    assert list(in_words("wal", counts)) == [
        "cut anywhere, then started with all that was promised: 5 lives",
        "rotten, stopped with a code, mended as the message says: 2 E-WAL-GAP",
    ]


def test_name_that_nobody_has_worded_is_shown_all_the_same() -> None:
    assert list(in_words("wal", {"bent_twice": 1_000})) == ["also: 1,000 bent twice"]
    assert list(in_words("a new part", {"cases": 3})) == ["also: 3 cases"]


def test_it_is_the_same_which_client_it_was_and_what_is_said_twice_is_said_once() -> None:
    counts = {"client 0 paused": 2, "client 11 paused": 3, "power_cut": 4, "power cut": 4}

    assert list(in_words("simulation", counts)) == [
        "faults drawn: 4 power cuts",
        "what they did: 5 clients paused",
    ]


def test_simulated_time_is_told_in_hours() -> None:
    (line,) = in_words("simulation", {"simulated ms": 7_300_000})

    assert line == "judged: 2 hours of simulated time"


def test_words_are_for_parts_that_there_are_and_for_names_of_their_results() -> None:
    """What no published result has may be new; most are there, or the words are stale."""
    assert WORDS.keys() <= {part.name for part in PARTS}
    for part, groups in WORDS.items():
        counted = {name for one in evidence.published() if one.part == part for name in one.counts}
        worded = [name for words in groups.values() for name in words]
        assert len(set(worded)) == len(worded)
        assert len(counted & set(worded)) > len(worded) // 2
