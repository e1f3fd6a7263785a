"""The simulation as a part of the proof: what was lived is kept, however it ends."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

import proof.result
from headrace.sim import campaign
from headrace.sim.outcome import Outcome
from proof.simulation import main


@pytest.fixture(autouse=True)
def _results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof.result, "RESULTS", tmp_path / "results.jsonl")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_it_after_the_life_it_meets(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    def live(seed: int, operations: int) -> Outcome:
        if seed == 3:
            signal.raise_signal(number)
        return Outcome(seed=seed, operations=operations)

    monkeypatch.setattr(campaign, "live", live)
    monkeypatch.setattr(sys, "argv", ["simulation", "--seed-from", "2", "--seeds", "9"])

    assert main() == 0

    [result] = proof.result.kept()
    assert result.counts == {"seeds": 2, "operations": 600}
    assert result.notes == ["stopped with 7 seeds left"]
    assert result.failures == []
