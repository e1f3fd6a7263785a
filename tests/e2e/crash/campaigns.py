"""The stories of real processes by kind, as the long runs tell them: one seed, one story."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import msgspec

from tests.e2e.crash import double_starts, drains, stops
from tests.e2e.crash.commands import copies_meet_points
from tests.e2e.crash.embedded_faults import owner_whose_sync_fails
from tests.e2e.crash.kills import EmbeddedStory, ServerStory, Tally
from tests.e2e.crash.power import Machine
from tests.e2e.crash.syscalls import Story, point_at

CYCLES = 30
"""Of kills in one story."""
CUTS = 10
STOP_S_MIN = 1.0
STOP_S_MAX = 30.0


class Campaign(msgspec.Struct, frozen=True):
    tell: Callable[[Path, int], Tally]
    """The story of a seed. Raises: `AssertionError`; `DoesNotRun`."""
    kill_cycles_per_story: int
    """So many kill cycles of the whole run stand for one story of this kind."""

    def count_for(self, kill_cycles: int) -> int:
        return max(1, round(kill_cycles / self.kill_cycles_per_story))


def _kills(directory: Path, seed: int) -> Tally:
    """Of a server with its whole log, of one that cuts it short, of embedded owners, in turn."""
    if seed % 3 == 2:
        return EmbeddedStory(directory, seed).run(CYCLES)
    return ServerStory(directory, seed, small_files=seed % 3 == 1).run(CYCLES)


def _syscall(directory: Path, seed: int) -> Tally:
    """A call that fails; or in which the process dies, and the power goes off."""
    point = point_at(seed)
    story = Story(directory, Machine(directory / "disk") if point.kills else None)
    try:
        story.survives(point)
    except AssertionError as error:
        raise AssertionError(f"{point}: {error}") from error
    return story.tally()


def _power_cuts(directory: Path, seed: int) -> Tally:
    machine = Machine(directory / "disk")
    story = ServerStory(directory, seed, small_files=seed % 2 == 1, machine=machine)
    tally = story.run(CUTS)
    del tally["cycles"]  # those are of kills alone
    return tally


def _stops(directory: Path, seed: int) -> Tally:
    stop_s = random.Random(seed).uniform(STOP_S_MIN, STOP_S_MAX)
    if seed % 4 == 0:
        return stops.server_stands_still(directory, seed, [stop_s])
    if seed % 4 == 1:
        return stops.owner_stands_still(directory, seed, [stop_s])
    if seed % 4 == 2:
        return stops.disk_stands_still(directory, seed, stop_s)
    return stops.workers_stand_still(directory, seed, 5)


def _asked_to_stop(directory: Path, seed: int) -> Tally:
    return drains.all_are_asked_to_stop(directory, seed, 4 * len(drains.ACTS))


def _double_starts(directory: Path, seed: int) -> Tally:
    if seed % 2:
        return double_starts.servers_start_at_once(directory, seed, rounds=3)
    return double_starts.applications_start_at_once(directory, seed, rounds=3)


KINDS = {
    "kills": Campaign(_kills, CYCLES),
    "syscalls": Campaign(_syscall, 3),
    "owner-syscalls": Campaign(owner_whose_sync_fails, 30),
    "power-cuts": Campaign(_power_cuts, 30),
    "copies": Campaign(copies_meet_points, 15),
    "stops": Campaign(_stops, 38),
    "asked-to-stop": Campaign(_asked_to_stop, 60),
    "double-starts": Campaign(_double_starts, 60),
}
