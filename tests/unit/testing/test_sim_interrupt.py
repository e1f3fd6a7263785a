"""Whoever runs a simulation can end it, whatever it is at."""

from __future__ import annotations

import asyncio

import pytest

from headrace.model.env import EnvParts
from headrace.testing.sim_loop import SimLoop, SimNodeEnv, run_simulated
from headrace.testing.sim_process import SimMachine


@pytest.mark.parametrize("own_process", [True, False])
def test_interrupt_inside_a_disk_call_is_for_whoever_runs_the_simulation(
    own_process: bool,
) -> None:
    loop = SimLoop()
    told: list[object] = []

    def interrupted() -> None:
        raise KeyboardInterrupt

    async def main(env: EnvParts | SimNodeEnv) -> None:
        thread = env.threads.io_thread("commit", asyncio.get_running_loop())
        thread.submit(interrupted, lambda *answer: told.append(answer))
        await asyncio.sleep(10)

    def simulate() -> None:
        if own_process:
            loop.run_until_complete(SimMachine(loop).start("p", main).wait())
        else:
            run_simulated(main)

    with pytest.raises(KeyboardInterrupt):
        simulate()

    loop.close()
    assert told == []
