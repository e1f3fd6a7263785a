"""What breaks in a life breaks something, and ends without ending anything else."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import msgspec
import pytest

from headrace.sim import faults
from headrace.sim.conditions import conditions_of
from headrace.sim.world import World
from headrace.testing.sim_loop import SimLoop
from headrace.testing.sim_network import CALM, Weather

APART = msgspec.structs.replace(conditions_of(0), embedded=False)
TOGETHER = msgspec.structs.replace(APART, embedded=True)


@pytest.fixture
def loop() -> Iterator[SimLoop]:
    loop = SimLoop()
    yield loop
    loop.close()


def test_shortened_write_is_the_next_that_is_longer(loop: SimLoop) -> None:
    world = World(loop, APART)
    disk = world.machine.disk
    fd = disk.open("/file", create=True, write=True)

    faults.shorten_write(world, random.Random(0))
    for _ in range(2 * faults.CALLS_AHEAD_MAX):
        disk.stat("/file")

    assert disk.pwrite(fd, bytes(1_000), 0) < 1_000
    assert disk.pwrite(fd, bytes(1_000), 0) == 1_000


def test_partition_ends_without_ending_the_weather(loop: SimLoop) -> None:
    world = World(loop, APART)
    world.network.weather = weather = Weather(latency_s=0.9)

    for seed in range(20):
        faults.part_machines(world, random.Random(seed))
    assert world.network.is_parted("server", "others")
    loop.run_until_complete(asyncio.sleep(faults.DURATIONS_MS[-1] / 1_000 + 1))

    assert not world.network.is_parted("server", "others")
    assert world.network.weather is weather


def test_machine_is_never_parted_from_itself(loop: SimLoop) -> None:
    world = World(loop, TOGETHER)
    world.hosting.close()

    faults.part_machines(world, random.Random(0))

    assert not world.network.is_parted("server", "server")


def test_spell_of_weather_ends_by_itself(loop: SimLoop) -> None:
    world = World(loop, APART)

    faults.rough_weather(world, random.Random(0))
    assert world.network.weather is not CALM
    loop.run_until_complete(asyncio.sleep(faults.DURATIONS_MS[-1] / 1_000 + 1))

    assert world.network.weather is CALM
