"""What breaks in a life, by class; drawn at random between the acts.

A fault either happens at once (a kill) or begins, and ends by itself after a drawn time
or when the faults of the life are over.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from headrace.sim.conditions import DIRECTORY
from headrace.testing.sim_disk import Fault as DiskFault
from headrace.testing.sim_disk import SimDisk
from headrace.testing.sim_network import Weather
from headrace.testing.sim_process import IO_LATENCY_S

if TYPE_CHECKING:
    from headrace.sim.world import World
    from headrace.testing.sim_process import SimMachine, SimProcess

Break = Callable[["World", random.Random], None]
DURATIONS_MS = (1, 30, 500, 3_000, 12_000)
CALLS_AHEAD_MAX = 30
POWER_MS = 50
"""So soon the power fails, if the disk does not come to the planned call before."""


class Fault(msgspec.Struct, frozen=True):
    weight: int
    begin: Break


# --- processes


def some_process(world: World, dice: random.Random, names: list[str]) -> SimProcess:
    return world.processes[dice.choice(names)]


def some_machine(world: World, dice: random.Random) -> SimMachine:
    """The server's, or that of clients and workers; of an embedded server there is one."""
    return dice.choice((world.machine, world.others))


def kill_server(world: World, dice: random.Random) -> None:
    world.kill(world.server_process)


def stop_server(world: World, dice: random.Random) -> None:
    """In good order, as a deploy does."""
    world.hosting.stop(dice.choice((0, 300, 5_000)))


def kill_worker(world: World, dice: random.Random) -> None:
    world.kill(some_process(world, dice, world.worker_names or world.asker_names))


def kill_asker(world: World, dice: random.Random) -> None:
    world.kill(some_process(world, dice, world.asker_names))


def stop_worker(world: World, dice: random.Random) -> None:
    """In good order, as a deploy does; where there is none, a client."""
    world.close(some_process(world, dice, world.worker_names or world.asker_names))


def power_cut(world: World, dice: random.Random) -> None:
    """Often in the middle of what the disk is at."""
    disk = world.machine.disk
    if dice.random() < 0.3:
        world.power_cut(some_machine(world, dice), dice)
        return
    planned = disk.calls + dice.randint(1, CALLS_AHEAD_MAX)
    disk.faults[planned] = DiskFault(crash=dice.choice(("before", "after")))

    def cut() -> None:
        disk.faults.pop(planned, None)
        world.power_cut(world.machine, dice)

    world.until(POWER_MS, cut)


def pause_server(world: World, dice: random.Random) -> None:
    world.pause(world.server_process, dice.choice(DURATIONS_MS))


def pause_other(world: World, dice: random.Random) -> None:
    process = some_process(world, dice, world.worker_names + world.asker_names)
    world.pause(process, dice.choice(DURATIONS_MS))


def block_worker(world: World, dice: random.Random) -> None:
    """Its loop stands still, as under a handler that blocks; its heartbeat goes on."""
    if world.worker_names:
        process = some_process(world, dice, world.worker_names)
        process.block(dice.choice(DURATIONS_MS) / 1_000)


# --- network


def reset_connections(world: World, dice: random.Random) -> None:
    for connection in world.network.connections():
        if dice.random() < 0.5:
            connection.reset()


def silence_connections(world: World, dice: random.Random) -> None:
    """Half-open, in one direction or both; some for ever, others for a while."""
    for_ever = dice.random() < 0.5
    duration_ms = dice.choice(DURATIONS_MS)
    for connection in world.network.connections():
        way = dice.randrange(4)
        for direction in connection.directions[way == 2 : 1 + (way > 0)]:
            direction.silence(for_ever=for_ever)
            world.until(duration_ms, direction.heal)


def part_machines(world: World, dice: random.Random) -> None:
    if world.others is world.machine:
        return
    names = [world.machine.name, world.others.name]
    dice.shuffle(names)
    one_way = dice.random() < 0.5
    world.network.partition(*names, one_way=one_way)
    world.until(dice.choice(DURATIONS_MS), partial(world.network.unpart, *names, one_way=one_way))


def rough_weather(world: World, dice: random.Random) -> None:
    weather = Weather(
        latency_s=dice.choice((0.0001, 0.005, 0.08, 0.9)),
        tail_probability=dice.choice((0.0, 0.05)),
        tail_s=dice.choice((0.1, 3.0)),
        split_probability=dice.choice((0.0, 0.3)),
        bytes_per_s=dice.choice((0.0, 0.0, 20_000.0)),
        reset_probability=dice.choice((0.0, 0.01)),
        silence_probability=dice.choice((0.0, 0.002)),
        refuse_probability=dice.choice((0.0, 0.3)),
        hang_probability=dice.choice((0.0, 0.1)),
        spares_unix=False,
    )
    world.network.weather = weather
    world.until(dice.choice(DURATIONS_MS), partial(world.network.calm, weather))


# --- disk


def fail_disk_call(world: World, dice: random.Random) -> None:
    disk = world.machine.disk
    error = dice.choice((errno.EIO, errno.EIO, errno.ENOSPC))
    disk.faults[disk.calls + dice.randint(1, CALLS_AHEAD_MAX)] = DiskFault(error_number=error)


def shorten_write(world: World, dice: random.Random) -> None:
    """The next one that is longer."""
    disk = world.machine.disk
    disk.shorten_to_bytes = dice.choice((1, 100, 513))

    def forget() -> None:
        disk.shorten_to_bytes = 0

    world.until(DURATIONS_MS[-1], forget)


def fill_disk(world: World, dice: random.Random) -> None:
    disk = world.machine.disk
    usual_bytes = disk.capacity_bytes
    disk.capacity_bytes -= disk.room_bytes - dice.choice((0, 3_000, 60_000, 20_000_000))

    def give_room() -> None:
        disk.capacity_bytes = max(disk.capacity_bytes, usual_bytes)

    world.until(dice.choice(DURATIONS_MS), give_room)


def slow_disk(world: World, dice: random.Random) -> None:
    machine = world.machine
    machine.io_latency_s = dice.choice((0.02, 0.3, 4.0))

    def hurry() -> None:
        machine.io_latency_s = IO_LATENCY_S

    world.until(dice.choice(DURATIONS_MS), hurry)


def rot_a_bit(world: World, dice: random.Random) -> None:
    """One bit of a file at rest, while nobody runs; back in order after the next start.

    Not of the newest segment, nor of the one allocated ahead of it: a commit that rots
    before the watermark names it cannot be told from a torn one.
    """
    disk = world.machine.disk
    if world.conditions.embedded or disk.dead or world.rotten is not None:
        return
    world.kill(world.server_process)
    paths = _files_at_rest(disk)
    if paths:
        path = dice.choice(paths)
        content = disk.peek(path)
        world.rot(path, dice.randrange(len(content)), 1 << dice.randrange(8))


def _files_at_rest(disk: SimDisk) -> list[str]:
    found: list[str] = []
    for folder, newest in ((f"{DIRECTORY}/wal", 2), (f"{DIRECTORY}/snapshots", 0)):
        names = disk.peek_names(folder)
        found += [f"{folder}/{name}" for name in names[: max(0, len(names) - newest)]]
    return [path for path in found if disk.peek(path)]


# --- clocks


def wall_jump(world: World, dice: random.Random) -> None:
    some_machine(world, dice).shift_wall(
        dice.choice((-3_600_000, -5_000, -40, 700, 60_000, 3_600_000))
    )


def suspend(world: World, dice: random.Random) -> None:
    """The machine sleeps: wall and boot time go on, monotonic time does not."""
    some_machine(world, dice).suspend(dice.choice((500, 20_000, 7_200_000)))


FAULTS: dict[str, dict[str, Fault]] = {
    "kill": {"kill_server": Fault(6, kill_server), "stop_server": Fault(3, stop_server)},
    "power": {"power_cut": Fault(6, power_cut)},
    "pause": {"pause_server": Fault(3, pause_server), "pause_other": Fault(4, pause_other)},
    "network": {
        "reset_connections": Fault(6, reset_connections),
        "silence_connections": Fault(3, silence_connections),
        "part_machines": Fault(2, part_machines),
        "rough_weather": Fault(4, rough_weather),
    },
    "disk": {
        "fail_disk_call": Fault(4, fail_disk_call),
        "shorten_write": Fault(3, shorten_write),
        "fill_disk": Fault(2, fill_disk),
        "slow_disk": Fault(3, slow_disk),
    },
    "rot": {"rot_a_bit": Fault(4, rot_a_bit)},
    "clock": {"wall_jump": Fault(3, wall_jump), "suspend": Fault(2, suspend)},
    "worker": {
        "kill_worker": Fault(5, kill_worker),
        "stop_worker": Fault(3, stop_worker),
        "kill_asker": Fault(4, kill_asker),
        "block_worker": Fault(5, block_worker),
    },
}
