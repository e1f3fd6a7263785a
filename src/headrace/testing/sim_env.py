"""`SimEnv`: the parts of an `Env` that a log takes, all of them under a test's control."""

from __future__ import annotations

import random
from collections.abc import Mapping

from headrace.testing.sim_disk import SimDisk

_START_WALL_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z, so that logs of a run read like logs."""


class SimClock:
    """Time that stands still until a test moves it."""

    def __init__(self, wall_ms: int = _START_WALL_MS) -> None:
        self._wall_ms = wall_ms
        self._mono_ns = 0

    def wall_ms(self) -> int:
        return self._wall_ms

    def mono_ns(self) -> int:
        return self._mono_ns

    def boot_ns(self) -> int:
        return self._mono_ns

    def advance_ms(self, duration_ms: int) -> None:
        self._wall_ms += duration_ms
        self._mono_ns += duration_ms * 1_000_000


class SimEntropy:
    """The same bytes for the same seed."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def random_bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def random_u64(self) -> int:
        return self._random.getrandbits(64)


class SimHost:
    def __init__(self, pid: int = 1, uid: int = 1000, hostname: str = "sim") -> None:
        self._pid = pid
        self._uid = uid
        self._hostname = hostname

    def pid(self) -> int:
        return self._pid

    def uid(self) -> int:
        return self._uid

    def hostname(self) -> str:
        return self._hostname

    def boot_id(self) -> str:
        return "00000000-0000-4000-8000-000000000001"

    def process_exists(self, pid: int) -> bool:
        return pid == self._pid

    def environ(self) -> Mapping[str, str]:
        return {}

    def working_directory(self) -> str:
        return "/"

    def processor_count(self) -> int:
        return 2

    def open_files_max(self) -> int:
        return 1 << 20


class SimEnv:
    """One process on one machine; give two of them the same disk to have two processes."""

    def __init__(self, *, seed: int = 0, disk: SimDisk | None = None, pid: int = 1) -> None:
        self.disk = disk or SimDisk()
        self.clock = SimClock()
        self.entropy = SimEntropy(seed)
        self.host = SimHost(pid=pid)
