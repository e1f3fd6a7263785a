"""SIGKILL at random under load: no acknowledged job lost, none in two states, attempts right.

The moments are drawn from a seed that is printed; HEADRACE_SEED runs one again.
`python -m proof.processes` runs hundreds of cycles.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.crash.as_history import judged
from tests.e2e.crash.kills import EmbeddedStory, ServerStory
from tests.e2e.crash.witness import path_of

CYCLES = 10


def test_server_and_workers_killed_at_random_lose_nothing(tmp_path: Path, seed: int) -> None:
    story = ServerStory(tmp_path, seed)
    tally = story.run(CYCLES)
    assert tally["cycles"] == CYCLES
    # Also jobs that nobody knows to be there: their enqueue has no answer.
    assert tally["jobs in one order"] >= tally["jobs"]
    assert tally["jobs undecided"] == 0
    _judges_notice_what_is_wrong(tmp_path)


def _judges_notice_what_is_wrong(directory: Path) -> None:
    """Of the same story: a job that the server does not show, and calls that nobody made."""
    journal, data = directory / "journal", directory / "data"
    lost = {one.checker for one in judged(journal, data, []).violations}
    path_of(journal).unlink()
    unasked = {one.checker for one in judged(journal, data, []).violations}

    assert {"NothingLost", "ViewsFitTheLedger"} & lost
    assert {"NothingInvented", "NothingUnasked"} & unasked


def test_snapshots_and_truncation_lose_nothing_to_kills(tmp_path: Path, seed: int) -> None:
    cycles = CYCLES // 2
    assert ServerStory(tmp_path, seed, small_files=True).run(cycles)["cycles"] == cycles


def test_embedded_owner_and_others_killed_at_random_lose_nothing(tmp_path: Path, seed: int) -> None:
    story = EmbeddedStory(tmp_path, seed)
    assert story.run(CYCLES)["cycles"] == CYCLES
    print("taken over after", *(f"{one * 1000:.0f} ms" for one in story.successions_s))


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("round_no", range(4))
@pytest.mark.parametrize("small_files", [False, True], ids=["whole log", "truncated log"])
def test_server_story_goes_well_for_long(
    tmp_path: Path, seed: int, small_files: bool, round_no: int
) -> None:
    ServerStory(tmp_path, seed, small_files=small_files).run(3 * CYCLES)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("round_no", range(4))
def test_embedded_story_goes_well_for_long(tmp_path: Path, seed: int, round_no: int) -> None:
    EmbeddedStory(tmp_path, seed).run(3 * CYCLES)
