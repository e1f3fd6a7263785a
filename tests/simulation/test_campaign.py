"""Many lives: each counts, whatever becomes of the others."""

from __future__ import annotations

import pytest

from headrace.cli.main import main
from headrace.sim import life
from headrace.sim.campaign import campaign
from headrace.sim.final import Final
from headrace.sim.outcome import Outcome
from headrace.sim.plan import Plan
from headrace.sim.world import World
from headrace.testing.sim_disk import SimCrash
from proof.mutants import asking

BREAKDOWNS = [ZeroDivisionError("a bug of the simulator"), SimCrash("nobody caught it")]


@pytest.fixture(params=BREAKDOWNS, ids=lambda error: type(error).__name__)
def breakdown(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is said of it: the simulator breaks down in the life of seed 1, and in no other."""
    error: BaseException = request.param
    drive = life._drive

    async def breaking(world: World, plan: Plan) -> Final:
        if world.seed == 1:
            raise error
        return await drive(world, plan)

    monkeypatch.setattr(life, "_drive", breaking)
    return f"Simulator: {type(error).__name__}: {error}"


def test_life_whose_simulator_breaks_down_is_a_failure_and_the_others_are_lived(
    breakdown: str,
) -> None:
    told: list[Outcome] = []
    sums = campaign(range(3), 10, on_outcome=told.append)

    assert (sums.seeds, sums.failed_seeds) == (3, [1])
    assert told[0].operations > 0
    assert told[1].violations == [breakdown]
    assert told[2].operations > 0


def test_failure_of_the_simulator_is_told_with_the_command_that_shows_it(
    breakdown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sim", "--seed", "0", "--seeds", "2", "--operations", "10"]) == 1
    said = capsys.readouterr().out

    assert f"BROKEN  {breakdown}" in said
    assert "again:  headrace sim --seed 1 --operations 10" in said


def test_mutants_are_told_of_a_failure_of_the_simulator_with_its_command(
    breakdown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asking.main(["simulation", "2"]) == 1

    again = "headrace sim --seed 1 --operations 300"
    assert capsys.readouterr().out == f"seed 1: {breakdown} | {again}\n"
