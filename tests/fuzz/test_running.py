"""The command: what it runs, what it keeps, and that a failure is told with its replay."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import proof.result
from proof.fuzz import __main__ as command
from proof.fuzz import running, wal
from proof.fuzz.target import Broken
from proof.fuzz.targets import TARGETS
from proof.result import ROOT, Result, kept

pytestmark = pytest.mark.proof


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof.result, "RESULTS", tmp_path / "results.jsonl")
    monkeypatch.setattr(running, "RESULTS", tmp_path / "results.jsonl")


def last() -> Result:
    return kept()[-1]


def test_lives_are_counted_by_how_they_ended(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["wal", "--cases", "20", "--seed-from", "40"]) == 0

    assert last().part == "wal"
    assert (last().counts["cases"], last().counts["cut"]) == (20, 10)
    assert "0 failures" in capsys.readouterr().out


def test_targets_run_until_their_cases_are_used_up() -> None:
    arguments = ["parsers", "--target", "job-id", "--target", "name", "--cases", "600"]
    assert command.main([*arguments, "--no-vectors"]) == 0

    seeds = sum(len(TARGETS[name].seeds()) for name in ("job-id", "name"))
    assert last().counts["cases of the search"] == 600 + seeds
    assert set(last().details) == {"job-id", "name"}


def test_lives_without_a_count_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """None at all would pass for good."""
    with pytest.raises(SystemExit):
        command.main(["wal"])
    assert "wal needs --cases" in capsys.readouterr().err


@pytest.mark.parametrize("jobs", [1, 3, 4])
def test_count_of_the_search_is_kept_whoever_shares_it(jobs: int) -> None:
    options = command.parse(["parsers", "--cases", "1000", "--jobs", str(jobs)])

    assert sum(command.cases_of(options, number, jobs) for number in range(jobs)) == 1_000


def test_few_cases_are_not_shared_with_somebody_who_would_search_for_ever() -> None:
    targets = ["--target", "job-id", "--target", "name"]
    assert command.main(["parsers", *targets, "--cases", "1", "--jobs", "2", "--no-vectors"]) == 0

    seeds = sum(len(TARGETS[name].seeds()) for name in ("job-id", "name"))
    assert last().counts["cases"] == 1 + seeds


def test_run_that_has_no_time_left_keeps_what_it_has() -> None:
    assert command.main(["parsers", "--target", "name", "--budget-s", "1e-9"]) == 0
    assert last().counts["cases of vectors"] == 0


def test_failure_ends_with_1_and_tells_how_to_see_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(data: bytes) -> str:
        if b"-" in data:
            raise Broken("a dash is there")
        return "taken"

    broken = msgspec.structs.replace(TARGETS["job-id"], check=check)
    monkeypatch.setitem(TARGETS, "job-id", broken)
    assert command.main(["parsers", "--target", "job-id", "--cases", "200"]) == 1

    (failure,) = last().failures
    assert failure.endswith("[python -m proof.fuzz parsers --target job-id --hex 2d]")
    assert command.main(["parsers", "--target", "job-id", "--hex", "2d"]) == 1
    assert "a dash is there" in capsys.readouterr().out


def test_input_too_long_for_a_command_is_kept_in_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def check(data: bytes) -> str:
        if len(data) > 300:
            raise Broken("too long")
        return "taken"

    broken = msgspec.structs.replace(TARGETS["name"], check=check, seeds=lambda: [b"x" * 400])
    monkeypatch.setitem(TARGETS, "name", broken)
    assert command.main(["parsers", "--target", "name", "--cases", "10"]) == 1

    (path,) = (tmp_path / "fuzz").iterdir()
    assert path.stat().st_size == 301
    assert f"--input {path}" in last().failures[0]


def test_life_that_fails_is_told_by_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_case(seed: int) -> str:
        if seed == 7:
            raise Broken("seven")
        return wal.run_case(seed)

    monkeypatch.setattr(running, "run_case", run_case)
    assert command.main(["wal", "--cases", "4", "--seed-from", "5"]) == 1
    assert last().counts["cases"] == 4
    assert last().failures == [
        "seed 7: Broken: seven [python -m proof.fuzz wal --cases 1 --seed-from 7]"
    ]


def test_processes_share_the_work_and_the_budget(tmp_path: Path) -> None:
    environment = os.environ | {"HEADRACE_PROOF_DIR": str(tmp_path)}
    arguments = ["wal", "--cases", "1000000", "--jobs", "2", "--budget-s", "3"]
    done = subprocess.run(
        [sys.executable, "-m", "proof.fuzz", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    assert last().seconds < 60
