"""The long run of real processes: what it plans, and how it keeps what happened."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from proof.processes import PASSED, REPORT, SCENARIOS, SKIPPED, Telling, Unit, units_of
from proof.result import Result
from proof.stopping import Stopping
from tests.e2e.crash import campaigns, rights
from tests.e2e.crash.syscalls import DEEPEST, FAULTS, point_at, point_of


def test_three_hundred_cycles_come_with_a_hundred_points() -> None:
    counts = {kind: one.count_for(300) for kind, one in campaigns.KINDS.items()}

    assert counts["kills"] * campaigns.CYCLES == 300
    assert counts["syscalls"] == 100
    assert min(counts.values()) >= 5


def test_every_kind_has_a_command_that_replays_its_seed() -> None:
    options = argparse.Namespace(cycles=300, units=0, only=[], seed_from=7)
    units = list(units_of(options))
    scenarios = [unit for unit in units if unit.kind == "scenarios"]

    assert len(scenarios) == len(SCENARIOS)
    assert all((Path("tests/e2e") / f"{name}.py").exists() for name in SCENARIOS)
    last = [unit for unit in units if unit.kind == "syscalls"][-1]
    assert last.replay == "python -m proof.processes --only syscalls --units 1 --seed-from 106"


def test_points_in_a_row_meet_every_call_with_every_fault() -> None:
    count = len(DEEPEST) * len(FAULTS)
    points = [point_at(number) for number in range(1_000, 1_000 + count)]

    assert len({(point.syscall, point.fault) for point in points}) == count
    assert all(point_of(str(point)) == point for point in points)
    assert all(1 <= point.when <= DEEPEST[point.syscall] for point in points)


def test_broken_promise_is_a_failure_with_its_replay() -> None:
    def breaks(directory: Path) -> Counter[str]:
        raise AssertionError("a job is lost")

    result = _told(breaks)

    assert result.failures == ["kills: AssertionError: a job is lost (breaks); replay: as before"]
    assert result.counts == {}


def test_what_a_machine_does_not_allow_is_noted() -> None:
    def needs_more(directory: Path) -> Counter[str]:
        raise rights.DoesNotRun(rights.Lack("strace may not trace here"))

    result = _told(needs_more)

    assert result.failures == []
    assert result.notes == ["did not run: kills: strace may not trace here"]


def test_every_reason_why_a_scenario_was_skipped_is_noted() -> None:
    def runs_some(directory: Path) -> Counter[str]:
        (directory / REPORT).write_text(
            """<testsuites><testsuite>
            <testcase name="test_a"/>
            <testcase name="test_b[1]"><skipped message="no strace"/></testcase>
            <testcase name="test_b[2]"><skipped message="no strace"/></testcase>
            <testcase name="test_c"><skipped message="no tmpfs"/></testcase>
            </testsuite></testsuites>"""
        )
        return Counter({PASSED: 1, SKIPPED: 3})

    result = _told(runs_some)

    assert result.notes == ["did not run: test_b: no strace", "did not run: test_c: no tmpfs"]
    assert result.counts == {PASSED: 1, SKIPPED: 3, "stories": 1}


def test_story_of_which_everything_was_skipped_is_none() -> None:
    result = _told(lambda directory: Counter({SKIPPED: 2}))

    assert result.counts == {SKIPPED: 2, "stories": 0}


def test_sums_are_of_what_was_told_before_the_time_was_over() -> None:
    def tells(directory: Path) -> Counter[str]:
        assert list(directory.iterdir()) == []
        return Counter(cycles=30)

    assert _told(tells, count=2).counts == {"cycles": 60, "stories": 2}
    late = _told(tells, budget_s=1e-9)
    assert late.counts == {}
    assert late.notes == ["kills: the time was over after 0 of 1 stories"]


def _told(tell: Callable[[Path], Counter[str]], count: int = 1, budget_s: float = 60) -> Result:
    result = Result(part="processes", command="")
    with Stopping(budget_s) as stopping:
        units = [Unit("kills", 0.0, tell, "as before") for _ in range(count)]
        Telling(result, stopping).all_of(units, 1)
    return result
