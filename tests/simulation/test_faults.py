"""What breaks in a life: every machine, every clock, and owners that leave as they should."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from headrace.server.compose import RunningServer
from headrace.sim.conditions import conditions_of
from headrace.sim.faults import power_cut, suspend, wall_jump
from headrace.sim.history import Happened
from headrace.sim.life import lived_of, plan_for
from headrace.sim.world import World
from headrace.testing.sim_loop import SimLoop
from headrace.testing.sim_process import SimMachine

pytestmark = pytest.mark.proof

DRAWS = 30
OF_A_SERVER = next(seed for seed in range(100) if not conditions_of(seed).embedded)
EMBEDDED = [
    seed
    for seed in range(200)
    if conditions_of(seed).embedded and "kill" in conditions_of(seed).faults
]


@pytest.fixture
def world() -> Iterator[World]:
    loop = SimLoop()
    yield World(loop, conditions_of(OF_A_SERVER))
    loop.close()


def wall(machine: SimMachine) -> int:
    return machine.clock.wall_ms()


def boots(machine: SimMachine) -> int:
    return machine.boot_count


@pytest.mark.parametrize(
    ("fault", "shows"), [(wall_jump, wall), (suspend, wall), (power_cut, boots)]
)
def test_fault_befalls_the_machine_of_the_server_and_that_of_its_clients(
    world: World,
    fault: Callable[[World, random.Random], None],
    shows: Callable[[SimMachine], int],
) -> None:
    before = shows(world.machine), shows(world.others)
    for draw in range(DRAWS):
        fault(world, random.Random(draw))

    assert shows(world.machine) != before[0]
    assert shows(world.others) != before[1]


def test_client_with_a_wrong_clock_asks_by_its_own(world: World) -> None:
    server_ms = wall(world.machine)
    world.others.shift_wall(3_600_000)

    assert world.askers[0].wall_ms() == server_ms + 3_600_000
    assert wall(world.machine) == server_ms


def test_owner_of_a_directory_leaves_in_good_order_and_another_one_serves() -> None:
    stopped = served_after = 0
    for seed in EMBEDDED[:5]:
        events = lived_of(plan_for(seed, 300)).history.events
        told = [event.what for event in events if isinstance(event, Happened)]
        if "server_stopped" in told:
            stopped += 1
            served_after += "server_ready" in told[told.index("server_stopped") :]

    assert stopped > 0
    assert served_after == stopped


def test_owner_that_cannot_leave_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stop(self: RunningServer, drain_ms: int = 0) -> None:
        raise ZeroDivisionError("a bug of the server")

    monkeypatch.setattr(RunningServer, "stop", stop)
    lives = (lived_of(plan_for(seed, 300)) for seed in EMBEDDED[:5])

    assert any("release_failed" in one for life in lives for one in life.outcome.violations)
