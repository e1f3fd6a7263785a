"""What `verify` says of a directory after a crash is judged."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headrace.log.file.inspect import Finding, Severity
from headrace.log.file.inspect import verify as real_verify
from headrace.model.env import LogEnv
from headrace.sim import checkup
from headrace.sim.life import live_plan, plan_for

OPERATIONS = 300
SEEDS = 60


def first_complaint(fault_class: str) -> str:
    """Of the checker of checkups, in lives in which such a fault happens."""
    for seed in range(SEEDS):
        plan = plan_for(seed, OPERATIONS)
        if fault_class in plan.conditions.faults and not plan.conditions.embedded:
            for violation in live_plan(plan).violations:
                if violation.startswith("CheckupsAreClean: "):
                    return violation
    return ""


def test_verify_that_overlooks_a_rotten_bit_breaks_a_promise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkup, "verify", lambda env, directory: iter(()))

    assert "did not notice: E-" in first_complaint("rot")


def test_verify_that_names_another_place_than_the_rotten_one_breaks_a_promise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def verify(env: LogEnv, directory: str) -> Iterator[Finding]:
        for one in real_verify(env, directory):
            yield Finding(one.severity, one.code, one.path, one.offset + 64, one.message)

    monkeypatch.setattr(checkup, "verify", verify)

    assert "offset" in first_complaint("rot")


def test_verify_that_finds_damage_after_a_mere_crash_breaks_a_promise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = Finding(Severity.ERROR, "E-WAL-GAP", "/data/wal", 0, "a segment is missing")
    monkeypatch.setattr(checkup, "verify", lambda env, directory: iter((found,)))

    complaint = first_complaint("kill")

    assert complaint.endswith("verify: E-WAL-GAP /data/wal offset 0: a segment is missing")
