"""`make prove`: resumable, bounded, and not to be talked into success."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import proof.result
from proof import prove
from proof.parts import MINUTES, PARTS, Part
from proof.prove import State, progress_of, read_state, table, write_state
from proof.result import ROOT, kept
from proof.stopping import Stopping

DOES = """
import sys
from proof.result import recorded
count, first, fails, most = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
with recorded("made-up", "made up") as result:
    result.counts = {"cases": min(count, most), "first": first}
    result.failures = [fails] if fails else []
sys.exit(1 if fails else 0)
"""


WAITS = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
open(sys.argv[3], "w").close()
signal.sigwait({signal.SIGINT})
from proof.result import recorded
with recorded("made-up", "made up") as result:
    result.counts = {"cases": 40}
"""
"""Says that it runs, by opening a pipe, and ends when it is told."""


def part(fails: str = "", most: int = 1_000, script: str = DOES, planned: int = 100) -> Part:
    return Part(
        name="made-up",
        says="Nothing.",
        arguments=("-c", script, "{count}", "{first}", fails, str(most)),
        shown="python",
        unit="cases",
        counts=("cases",),
        ci="nothing",
        planned=planned,
        minutes=1,
    )


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where results of this test go, here and in its children."""
    monkeypatch.setenv("HEADRACE_PROOF_DIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'src'}")
    monkeypatch.setattr(proof.result, "RESULTS", tmp_path / "results.jsonl")
    return tmp_path


def run(made: Part, directory: Path) -> tuple[str, int, State]:
    """One `make prove` of one part."""
    state = read_state(directory, "c1", 0, fresh=False)
    with Stopping(60) as stopping:
        one = prove.Run(state, directory, MINUTES, stopping)
        one.run([made])
    return *table([made], state, kept(), one.broken), state


def test_part_is_asked_for_what_is_planned_and_its_sums_are_shown(directory: Path) -> None:
    text, failed, state = run(part(), directory)

    assert (failed, state.ended) == (0, ["made-up"])
    assert "100 cases  100   0" in text


def test_part_that_has_ended_is_not_run_again(directory: Path) -> None:
    run(part(), directory)
    run(part(), directory)

    assert len(kept()) == 1


def test_interrupted_run_goes_on_where_it_stopped(directory: Path) -> None:
    _, _, state = run(part(most=40), directory)
    state.ended = []  # as when it was stopped
    write_state(state, directory)
    text, failed, _ = run(part(), directory)

    assert [result.counts for result in kept()] == [
        {"cases": 40, "first": 0},
        {"cases": 60, "first": 40},
    ]
    assert (failed, "100 cases  100 " in text) == (0, True)


def test_run_that_is_told_to_stop_tells_its_parts_and_keeps_what_they_did(directory: Path) -> None:
    pipe = directory / "runs"
    os.mkfifo(pipe)
    state = read_state(directory, "c1", 0, fresh=False)
    made = part(script=WAITS, fails=str(pipe))
    with Stopping(60) as stopping:

        def stop_when_it_runs() -> None:
            pipe.open("rb").close()
            stopping.asked = True

        threading.Thread(target=stop_when_it_runs).start()
        one = prove.Run(state, directory, MINUTES, stopping)
        one.run([made])
    text, failed = table([made], state, kept(), one.broken)

    assert (failed, state.ended, len(kept())) == (0, [], 1)
    assert "not finished" in text


def test_part_that_is_slower_than_hoped_says_so_and_has_not_failed(directory: Path) -> None:
    slow = DOES.replace("sys.exit(", "result.seconds = 59.0; keep(result); sys.exit(")
    slow = slow.replace("import recorded", "import keep, recorded")
    text, failed, _ = run(part(most=40, script=slow, planned=1_000), directory)

    assert failed == 0
    assert "its time was over before its count" in text


def test_failure_is_shown_with_its_line_and_fails_the_run(directory: Path) -> None:
    text, failed, _ = run(part(fails="seed 7: show it"), directory)

    assert failed == 1
    assert "made-up: seed 7: show it" in text


@pytest.mark.parametrize("script", ["import sys; sys.exit(0)", "raise SystemExit(3)"])
def test_part_that_leaves_no_result_has_failed(directory: Path, script: str) -> None:
    text, failed, _ = run(part(script=script), directory)

    assert failed == 1
    assert "left no result" in text


def test_part_that_fails_without_a_failure_has_failed(directory: Path) -> None:
    """Nobody knows what happened then: it must not pass for success."""
    script = DOES.replace("sys.exit(1 if fails else 0)", "sys.exit(3)")
    text, failed, _ = run(part(script=script), directory)

    assert failed == 1
    assert "ended with exit code 3" in text


def test_results_of_another_run_do_not_count(directory: Path) -> None:
    _, _, state = run(part(), directory)

    assert progress_of(part(), state, kept()).done == 100
    assert progress_of(part(), State("c1", "another"), kept()).done == 0
    assert read_state(directory, "c1", 0, fresh=False) == state
    for begun_anew in (
        read_state(directory, "c2", 0, fresh=False),
        read_state(directory, "c2", 5, fresh=False),
        read_state(directory, "c2", 5, fresh=True),
    ):
        assert (begun_anew.ended, begun_anew.run == state.run) == ([], False)


def test_tree_that_changed_meanwhile_is_told(directory: Path) -> None:
    text, _, _ = run(part(), directory)

    assert f"The tree changed meanwhile: {kept()[0].commit}." in text


def test_shares_of_time_fit_into_the_whole() -> None:
    lanes = [sum(part.minutes for part in PARTS if part.alone)] * 2
    for one in PARTS:
        if not one.alone:
            lanes.sort()
            lanes[0] += one.minutes

    assert max(lanes) <= MINUTES


def test_commands_of_all_parts_can_be_filled_in() -> None:
    for one in PARTS:
        command = one.command(7, 3, 60.4)
        assert "60" in " ".join(command)
        assert not any(name in " ".join(command) for name in ("{count}", "{first}", "{budget_s}"))
