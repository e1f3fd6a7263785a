"""What the world of a life looks at by itself, beside what the checkers see."""

from __future__ import annotations

import asyncio

import msgspec

from headrace.model.commands import Flush
from headrace.sim.conditions import conditions_of
from headrace.sim.life import live
from headrace.sim.world import World
from headrace.testing.sim_loop import SimLoop

SERVED = msgspec.structs.replace(conditions_of(0), embedded=False, faults=())


def test_live_state_that_is_not_what_the_log_says_is_told() -> None:
    loop = SimLoop()
    world = World(loop, SERVED)

    async def scene() -> None:
        world.begin()
        await asyncio.sleep(3)
        assert world.engine is not None
        world.compare_live()
        assert (world.counts["states compared"], world.faults) == (1, [])

        world.engine.state.next_number += 1
        world.compare_live()

    loop.run_until_complete(scene())
    world.hosting.close()
    loop.close()

    [fault] = world.faults
    assert fault.startswith("live state: ")


def test_a_thorough_life_compares_the_live_state_at_nearly_every_step() -> None:
    seed = next(seed for seed in range(100) if conditions_of(seed).thorough)
    outcome = live(seed, 200)

    assert outcome.counts["states compared"] > outcome.operations // 2


def test_what_is_asked_in_the_moment_a_process_begins_is_asked_by_it() -> None:
    loop = SimLoop()
    world = World(loop, SERVED)
    asker = world.askers[0]

    async def scene() -> None:
        world.begin()
        await asyncio.sleep(3)
        world.processes[asker.name].kill()
        world.start(asker.name, asker.main)
        world.ask(asker, Flush())
        await asyncio.sleep(3)

    loop.run_until_complete(scene())
    world.hosting.close()
    loop.close()

    [call] = [call for call in world.history.calls if isinstance(call.command, Flush)]
    assert call.reply is not None
