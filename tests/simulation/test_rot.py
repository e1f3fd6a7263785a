"""A bit that rots: whoever finds it names its place, or is found out."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.log.file import recovery
from headrace.model.errors import FormatNewer, LogCorrupt, StopError
from headrace.sim.life import live_plan, plan_for
from headrace.sim.plan import Plan
from headrace.sim.rot import Damage

OPERATIONS = 300
SEEDS = 60
PATH = "/data/wal/1.wal"


@pytest.fixture(scope="module")
def rotting() -> Plan:
    """A life in which a start finds a rotten bit."""
    for seed in range(SEEDS):
        plan = plan_for(seed, OPERATIONS)
        if "rot" in plan.conditions.faults and live_plan(plan).counts.get("rot found"):
            return plan
    raise AssertionError(f"no start has found rot in {SEEDS} lives")


def stop_of_another_kind(stop: StopError) -> StopError:
    return FormatNewer("nonsense", **stop.details)


def stop_at_another_place(stop: StopError) -> StopError:
    details = {**stop.details, "offset": stop.details["offset"] + 64}
    return LogCorrupt(stop.message, **details)


def stop_in_another_file(stop: StopError) -> StopError:
    return LogCorrupt(stop.message, **{**stop.details, "path": PATH})


@pytest.mark.parametrize(
    "wrong", [stop_of_another_kind, stop_at_another_place, stop_in_another_file]
)
def test_start_that_does_not_name_what_has_rotted_breaks_a_promise(
    rotting: Plan, wrong: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = recovery.stop_for
    monkeypatch.setattr(recovery, "stop_for", lambda *given, **more: wrong(told(*given, **more)))

    found = live_plan(rotting).violations

    assert any(violation.startswith("start: ") for violation in found)


@pytest.mark.parametrize(
    ("details", "explained"),
    [
        ({"path": PATH, "offset": 512}, True),
        ({"path": PATH, "offset": 576}, False),
        ({"path": PATH + "2", "offset": 512}, False),
        ({}, False),
    ],
)
def test_damage_explains_a_stop_that_names_its_place(
    details: dict[str, Any], explained: bool
) -> None:
    damage = Damage("E-WAL-CORRUPT", PATH, 512)

    assert damage.explains(LogCorrupt("", **details)) == explained
    assert not damage.explains(FormatNewer("", **details))
