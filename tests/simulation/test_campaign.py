"""Many lives: each counts, whatever becomes of the others."""

from __future__ import annotations

import pytest

from headrace.sim import campaign as campaigns
from headrace.sim.campaign import campaign
from headrace.sim.outcome import Outcome


def test_life_whose_simulator_breaks_down_is_a_failure_and_the_others_are_lived(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def live(seed: int, operations: int) -> Outcome:
        if seed == 1:
            raise ZeroDivisionError("a bug of the simulator")
        return Outcome(seed=seed, operations=operations)

    monkeypatch.setattr(campaigns, "live", live)
    told: list[Outcome] = []
    sums = campaign(range(3), 10, on_outcome=told.append)

    assert (sums.seeds, sums.operations, sums.failed_seeds) == (3, 20, [1])
    assert told[1].violations == ["Simulator: ZeroDivisionError: a bug of the simulator"]
