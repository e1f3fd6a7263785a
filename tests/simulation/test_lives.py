"""Whole lives: server, log, SDK, workers and faults, judged by every checker.

`headrace sim --seed N` runs one of them again; `HEADRACE_SIM_SEEDS=30000 pytest …` more.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from unittest import mock

import pytest

from headrace.cli.main import main
from headrace.codec.rows import encode_rows
from headrace.engine.turn import Turn
from headrace.model.rows import Row
from headrace.runtime import snapshots
from headrace.sim.campaign import campaign
from headrace.sim.checkers import ALL
from headrace.sim.life import (
    BREAKING,
    TOLD_LINES_MAX,
    command_of,
    live,
    lived_of,
    plan_for,
    shrunk_life,
)
from headrace.sim.origin import origin
from headrace.sim.outcome import Outcome
from headrace.testing.sim_process_disk import DiskOfProcess

SEEDS = int(os.environ.get("HEADRACE_SIM_SEEDS", "1000"))
OPERATIONS = 300
PROCESSES = min(2, os.cpu_count() or 1)
SEEDS_FOR_A_BUG = 60
CONSEQUENCES = (
    "server killed",
    "power cut",
    "rot found",
    "disk_full",
    "owner changed",
    "checkups",
    "snapshots compared",
)
"""Of faults that may come to nothing: they have to happen, too."""

pytestmark = [pytest.mark.proof, pytest.mark.timeout(7200)]


def broken(outcomes: list[Outcome], operations: int) -> str:
    told = [f"{len(outcomes)} lives broken on {origin()}"]
    for outcome in outcomes:
        again = command_of(plan_for(outcome.seed, operations), operations)
        told += [f"{again}: {violation}" for violation in outcome.violations[:3]]
    return "\n".join(told)


def test_every_promise_is_kept_in_a_thousand_lives() -> None:
    outcomes: list[Outcome] = []
    sums = campaign(range(SEEDS), OPERATIONS, jobs=PROCESSES, on_outcome=outcomes.append)

    assert sums.seeds == SEEDS
    assert not sums.failed_seeds, broken([one for one in outcomes if one.violations], OPERATIONS)
    rare = {what: sums.counts.get(what, 0) for what in (*BREAKING, *CONSEQUENCES)}
    rare = {what: count for what, count in rare.items() if count <= SEEDS // 50}
    assert not rare, f"lives are too quiet: {rare}"


def test_the_same_seed_is_the_same_life_in_any_process() -> None:
    """Whatever the order of sets, the addresses of objects and the time of day."""
    script = (
        "from headrace.sim.life import live; print([live(s, 120).fingerprint for s in (3, 18)])"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }

    assert len(found) == 1
    assert str(live(3, 120).fingerprint) in next(iter(found))


def test_operations_are_commands_that_were_really_asked_and_nearly_every_step_asks_one() -> None:
    operations = 0
    for seed in range(10):
        lived = lived_of(plan_for(seed, OPERATIONS))
        asked = [call for call in lived.history.calls if call.actor.startswith(("cl", "session"))]

        assert lived.outcome.operations == len(asked)
        operations += len(asked)

    assert operations > 10 * OPERATIONS * 0.9


def first_broken(seeds: range) -> Outcome:
    """Of the first of these lives that breaks a promise."""
    for seed in seeds:
        outcome = live(seed, OPERATIONS)
        if outcome.violations:
            return outcome
    raise AssertionError(f"nothing was noticed in {len(seeds)} lives")


@pytest.fixture
def stale_leases_count() -> Iterator[None]:
    """A token is not looked at: whoever held the job once may settle it."""

    def held(turn: Turn, job_id: bytes, token: int) -> object:
        job = turn.live(job_id)
        return job if job is not None and job.token else None

    with mock.patch.object(Turn, "held", held):
        yield


@pytest.mark.usefixtures("stale_leases_count")
def test_an_engine_that_ignores_tokens_is_found_out_and_the_life_made_short() -> None:
    outcome = first_broken(range(SEEDS_FOR_A_BUG))
    plan = plan_for(outcome.seed, OPERATIONS)

    short, again, told = shrunk_life(plan, outcome)

    assert len(short.steps) < len(plan.steps) // 2
    assert again.violations
    assert again.violations[0].partition(":")[0] == outcome.violations[0].partition(":")[0]
    assert "--only" in command_of(short, OPERATIONS)
    assert 0 < len(told) <= 121


@pytest.mark.usefixtures("stale_leases_count")
def test_a_life_of_some_steps_that_is_lived_again_is_told_with_what_broke_in_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    outcome = first_broken(range(SEEDS_FOR_A_BUG))
    steps = len(plan_for(outcome.seed, OPERATIONS).steps)
    some = ["--seed", str(outcome.seed), "--only", f"0-{steps}"]

    assert main(["sim", *some]) == 1
    lines = capsys.readouterr().out.splitlines()
    broken_at = next(at for at, line in enumerate(lines) if line.startswith("BROKEN"))

    assert 0 < broken_at <= TOLD_LINES_MAX + 1
    assert all(line.lstrip().startswith("(") or " s  " in line for line in lines[:broken_at])


def test_a_disk_that_does_not_sync_is_found_out() -> None:
    """Commits are called durable although only the page cache has them."""
    with mock.patch.object(DiskOfProcess, "fdatasync", return_value=None):
        outcome = first_broken(range(SEEDS_FOR_A_BUG))

    signs = ("gone", "the log", "E-")
    assert any(sign in violation for violation in outcome.violations for sign in signs)


def test_a_snapshot_that_lacks_a_row_is_found_out_when_it_is_published() -> None:
    def without_one(rows: list[Row]) -> bytes:
        return encode_rows(rows[1:])

    with mock.patch.object(snapshots, "encode_rows", without_one):
        outcome = first_broken(range(SEEDS_FOR_A_BUG))

    assert any(one.startswith("the snapshot of index") for one in outcome.violations)


def test_each_checker_says_what_it_owns() -> None:
    for name, checker in ALL.items():
        assert checker.promise, name
        assert checker.invariants or checker.clauses, name


def test_a_life_outlives_a_refusal_of_every_kind() -> None:
    """The verbs ask wrong things too: what is never refused is never tested."""
    codes: set[str] = set()
    for seed in range(25):
        history = lived_of(plan_for(seed, OPERATIONS)).history
        codes |= {call.error.code for call in history.calls if call.error is not None}

    assert codes >= {"unknown_job", "wrong_state", "bad_request", "unknown_session"}
