"""A directory that several processes embed: they come, go, die, stand still and are blocked."""

from __future__ import annotations

import asyncio
import errno
import random
from functools import partial

import pytest

from headrace import App
from headrace.model.env import Env
from headrace.model.errors import HeadraceError
from headrace.testing.sim_disk import Fault
from headrace.testing.sim_loop import SimLoop
from headrace.testing.sim_process import ProcessKilled, SimMachine, SimProcess

DIRECTORY = "/owned"
PROCESS_COUNT = 4
STEP_COUNT = 40
CALM_S = 120
FULL_S = 20
WRITING = ("pwrite", "pwritev", "preallocate")


class Ledger:
    """Jobs that a process was told are accepted; it outlives them all."""

    def __init__(self) -> None:
        self.accepted: set[bytes] = set()
        self.refusals: list[HeadraceError] = []


async def come_and_go(env: Env, ledger: Ledger, seed: int, turns: int) -> None:
    """An application that is opened and closed again and again, often twice at a time."""
    draw = random.Random(seed)
    for _ in range(turns):
        await asyncio.gather(*(use(env, ledger, draw) for _ in range(draw.choice((1, 1, 3)))))


async def use(env: Env, ledger: Ledger, draw: random.Random) -> None:
    try:
        async with App(DIRECTORY, env=env) as app:
            for _ in range(draw.randrange(4)):
                accepted = await (await app.client()).enqueue("q", "k", b"{}")
                ledger.accepted.add(accepted.job_id)
                await asyncio.sleep(draw.choice((0, 0.001, 0.2)))
            if draw.random() < 0.2:
                async with asyncio.timeout(draw.random() * 0.01):
                    await (await App(DIRECTORY, env=env).client()).get_queue("q")
    except TimeoutError:
        pass
    except HeadraceError as refusal:
        ledger.refusals.append(refusal)


async def make_trouble(
    machine: SimMachine, processes: list[SimProcess], draw: random.Random
) -> None:
    for _ in range(STEP_COUNT):
        await asyncio.sleep(draw.choice((0.001, 0.02, 0.5)))
        process = draw.choice(processes)
        match draw.randrange(6):
            case 0:
                process.kill()
            case 1 if process.alive:
                process.pause()
                machine.loop.call_later(draw.choice((0.01, 1, 8)), process.go_on)
            case 2:
                process.block(draw.choice((0.01, 0.5, 3)), "headrace-engine")
            case 3:
                process.block(draw.choice((0.01, 0.5, 3)))
            case 4 if connections := machine.network.connections():
                draw.choice(connections).reset()
            case _:
                machine.io_latency_s = draw.choice((0.0005, 0.02, 0.3))


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_to_its_owners_every_call_ends_and_nothing_accepted_is_lost(
    seed: int,
) -> None:
    loop = SimLoop()
    machine = SimMachine(loop, seed)
    draw = random.Random(seed)
    ledger = Ledger()

    async def story() -> None:
        processes = [
            machine.start(f"p{no}", partial(come_and_go, ledger=ledger, seed=seed + no, turns=12))
            for no in range(PROCESS_COUNT)
        ]
        await make_trouble(machine, processes, draw)
        machine.io_latency_s = 0.0005
        for process in processes:
            process.go_on()
        async with asyncio.timeout(12 * CALM_S):
            for process in processes:
                try:
                    await process.result()
                except ProcessKilled:
                    continue
        last = machine.start("last", look)
        async with asyncio.timeout(CALM_S):
            await last.result()

    async def look(env: Env) -> None:
        async with App(DIRECTORY, env=env) as app:
            client = await app.client()
            for job_id in ledger.accepted:
                await client.get_job(job_id)

    try:
        loop.run_until_complete(story())
    finally:
        loop.close()
    assert machine.errors == []
    assert ledger.accepted


def test_application_whose_owner_dies_while_the_disk_is_full_works_again_when_there_is_room(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = SimLoop()
    machine = SimMachine(loop, 1)
    disk = machine.disk
    done: list[bytes] = []

    def is_full(method: str, path: str) -> Fault | None:
        return Fault(error_number=errno.ENOSPC) if method in WRITING else None

    async def own(env: Env) -> None:
        async with App(DIRECTORY, env=env) as app:
            await (await app.client()).enqueue("q", "k", b"{}")
            await asyncio.sleep(CALM_S)

    async def use_for_long(env: Env) -> None:
        async with App(DIRECTORY, env=env) as app:
            client = await app.client()
            await asyncio.sleep(FULL_S)
            done.append((await client.enqueue("q", "k", b"{}")).job_id)

    async def story() -> None:
        owner = machine.start("owner", own)
        await asyncio.sleep(1)
        user = machine.start("user", use_for_long)
        await asyncio.sleep(1)
        has_room, disk.befall = disk.befall, is_full
        owner.kill()
        await asyncio.sleep(FULL_S / 2)
        disk.befall = has_room
        await user.result()

    try:
        loop.run_until_complete(story())
    finally:
        loop.close()
    assert len(done) == 1
    assert any("take_over_refused" in line for line in caplog.messages)
