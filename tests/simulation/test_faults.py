"""What breaks in a life breaks something, and ends without ending anything else."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from headrace.sim import faults
from headrace.sim.conditions import conditions_of
from headrace.sim.world import World
from headrace.testing.sim_loop import SimLoop


@pytest.fixture
def loop() -> Iterator[SimLoop]:
    loop = SimLoop()
    yield loop
    loop.close()


def test_shortened_write_is_the_next_that_is_longer(loop: SimLoop) -> None:
    world = World(loop, conditions_of(0))
    disk = world.machine.disk
    fd = disk.open("/file", create=True, write=True)

    faults.shorten_write(world, random.Random(0))
    for _ in range(2 * faults.CALLS_AHEAD_MAX):
        disk.stat("/file")

    assert disk.pwrite(fd, bytes(1_000), 0) < 1_000
    assert disk.pwrite(fd, bytes(1_000), 0) == 1_000
    world.hosting.close()
