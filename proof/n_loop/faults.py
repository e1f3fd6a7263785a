"""What befalls the Nth call, and perhaps those after it.

EINTR is left to `close`: CPython repeats every other call of a real disk itself (PEP 475).
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import msgspec

from headrace.testing.sim_disk import Fault, SimDisk

SYNC = frozenset(("fdatasync",))
WRITES = frozenset(("pwrite", "pwritev"))
NEEDS_ROOM = WRITES | {"preallocate", "fdatasync", "mkdir", "rename", "fsync_dir", "truncate"}
"""Calls that a full disk may refuse; so may an `open` that makes a file."""
CHANGES = NEEDS_ROOM | {"open", "unlink"}
SHORT_BYTES = 97
"""What a short write takes, when all writes are short."""

Plan = Callable[[SimDisk, int], None]
"""Lets it happen from the call of that number on."""


class Kind(msgspec.Struct, frozen=True):
    name: str
    plan: Plan
    methods: frozenset[str] = frozenset()
    """Calls that it can befall; empty: all."""
    dies: str = ""
    """What stops at it: `process` or `machine`."""

    def fits(self, method: str) -> bool:
        return not self.methods or method in self.methods


def once(*faults: Fault) -> Plan:
    """These befall that call and the next ones, one each."""

    def plan(disk: SimDisk, number: int) -> None:
        disk.faults = dict(enumerate(faults, number))

    return plan


def from_then_on(fault: Fault, methods: frozenset[str] = frozenset()) -> Plan:
    def plan(disk: SimDisk, number: int) -> None:
        def befall(method: str, path: str) -> Fault | None:
            hit = disk.calls >= number and (not methods or method in methods)
            return fault if hit else None

        disk.befall = befall

    return plan


def heal(disk: SimDisk) -> None:
    disk.faults = {}
    disk.befall = lambda method, path: None


EIO = Fault(error_number=errno.EIO)
ENOSPC = Fault(error_number=errno.ENOSPC)
EINTR = Fault(error_number=errno.EINTR)
BEFORE, AFTER = Fault(crash="before"), Fault(crash="after")

KINDS = (
    Kind("EIO", once(EIO)),
    Kind("ENOSPC", once(ENOSPC), NEEDS_ROOM | {"open"}),
    Kind("EIO, though it landed", once(Fault(error_number=errno.EIO, lands=True)), SYNC),
    Kind("ENOSPC, though it landed", once(Fault(error_number=errno.ENOSPC, lands=True)), SYNC),
    Kind("EINTR", once(EINTR), frozenset({"close"})),
    Kind("short write", once(Fault(written_bytes=1)), WRITES),
    Kind("short write, then ENOSPC", once(Fault(written_bytes=1), ENOSPC), WRITES),
    Kind("short write, then EIO", once(Fault(written_bytes=1), EIO), WRITES),
    Kind("process dies before", once(BEFORE), dies="process"),
    Kind("process dies after", once(AFTER), CHANGES, dies="process"),
    Kind("machine stops before", once(BEFORE), dies="machine"),
    Kind("machine stops after", once(AFTER), CHANGES, dies="machine"),
    Kind("disk dead, then well", from_then_on(EIO)),
    Kind("disk full, then room", from_then_on(ENOSPC, NEEDS_ROOM), NEEDS_ROOM),
    Kind("every write short", from_then_on(Fault(written_bytes=SHORT_BYTES), WRITES), WRITES),
)
