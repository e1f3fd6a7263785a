"""`headrace sim` as a person runs it."""

from __future__ import annotations

import json

from tests.e2e.crash.cluster import run_cli


def test_life_that_goes_well_says_what_was_done() -> None:
    ran = run_cli("sim", "--seed", "3", "--operations", "40")

    assert ran.returncode == 0, ran.stderr
    assert "records" in ran.stdout
    assert "BROKEN" not in ran.stdout


def test_lives_are_counted_for_programs() -> None:
    ran = run_cli("sim", "--seed", "3", "--seeds", "3", "--operations", "20", "--json")
    found = json.loads(ran.stdout)

    assert ran.returncode == 0, ran.stderr
    assert (found["seeds"], found["operations"], found["failed"]) == (3, 60, [])
    assert 0 < found["simulated ms"] < 1_000_000, "counted from the beginning of each life"


def test_transcript_tells_the_life_and_a_part_of_it_can_be_kept() -> None:
    ran = run_cli("sim", "--seed", "3", "--operations", "40", "--only", "0-4", "--transcript")

    assert ran.returncode == 0, ran.stderr
    assert "*** server_ready" in ran.stdout


def test_steps_that_are_no_numbers_are_a_sentence() -> None:
    ran = run_cli("sim", "--only", "a-b")

    assert ran.returncode == 2
    assert "3-5,9" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_part_of_many_lives_is_refused() -> None:
    assert run_cli("sim", "--seeds", "2", "--only", "1").returncode == 2
    assert run_cli("sim", "--seeds", "0").returncode == 2
