"""What `headrace verify` says of a directory that nobody serves, against what it has to say.

Must change nothing of the life: neither the disk nor the faults that are planned for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from headrace.log.file.inspect import verify
from headrace.sim.conditions import DIRECTORY
from headrace.sim.final import Checkup
from headrace.sim.rot import Rotten
from headrace.testing.sim_disk import SimDisk
from headrace.testing.sim_env import SimEnv


def check_up(disk: SimDisk, at_ns: int, rotten: Rotten | None) -> Checkup:
    """What has rotted is expected to be named by its place, and nothing else."""
    damage = rotten.damage(disk) if rotten is not None else None
    expected = [str(damage)] if damage is not None else []
    with _undisturbed(disk):
        findings = [one for one in verify(SimEnv(disk=disk), DIRECTORY) if one.code]
    complaints = []
    for one in findings:
        short = f"{one.code} {one.path} offset {one.offset}"
        complaints.append(short if short in expected else f"{short}: {one.message}")
    return Checkup(at_ns, "verify", complaints, expected)


@contextmanager
def _undisturbed(disk: SimDisk) -> Iterator[None]:
    """What is planned befalls those who live."""
    calls, faults = disk.calls, disk.faults
    disk.faults = {}
    try:
        yield
    finally:
        disk.calls, disk.faults = calls, faults
