"""The machine that headrace runs on: the real `Env`.

With the `real_*` modules beside it, this is the only place below `cli` that touches
files, clocks, randomness, sockets or threads. It decides nothing and retries nothing:
one call is one system call, so that what a simulated disk can do to a caller, the real
one can do too, and nothing else.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping

from headrace.model.env import Env, EnvParts
from headrace.runtime.real_disk import RealDisk
from headrace.runtime.real_network import RealNetwork
from headrace.runtime.real_processes import RealProcesses
from headrace.runtime.real_threads import RealThreads

_BOOT_ID_PATH = "/proc/sys/kernel/random/boot_id"


class RealClock:
    """Linux's BOOTTIME and macOS's MONOTONIC run on during suspend; Python's does not."""

    def __init__(self) -> None:
        self._boot_clock: int | None = None
        if sys.platform != "win32":
            self._boot_clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def mono_ns(self) -> int:
        return time.monotonic_ns()

    def boot_ns(self) -> int:
        if self._boot_clock is None:
            return time.monotonic_ns()
        return time.clock_gettime_ns(self._boot_clock)


class RealEntropy:
    """The kernel's generator, unbuffered: a buffer would repeat itself after a fork."""

    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)

    def random_u64(self) -> int:
        return int.from_bytes(os.urandom(8), "little")


class RealHost:
    def pid(self) -> int:
        return os.getpid()

    def uid(self) -> int:
        return 0 if sys.platform == "win32" else os.getuid()

    def hostname(self) -> str:
        return socket.gethostname()

    def boot_id(self) -> str:
        try:
            with open(_BOOT_ID_PATH, encoding="ascii") as file:
                return file.read().strip()
        except OSError:
            return ""

    def process_exists(self, pid: int) -> bool:
        if pid <= 0:
            return False
        if sys.platform == "win32":  # signal 0 would be Ctrl-C there
            return True
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):  # no process has such a number
            return False
        except PermissionError:
            return True
        return True

    def environ(self) -> Mapping[str, str]:
        return os.environ

    def working_directory(self) -> str:
        return os.getcwd()

    def processor_count(self) -> int:
        return os.cpu_count() or 1

    def open_files_max(self) -> int:
        if sys.platform == "win32":
            return sys.maxsize
        import resource

        soft_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return sys.maxsize if soft_limit == resource.RLIM_INFINITY else soft_limit


def real_env() -> Env:
    """A seam to this machine; it holds nothing open, so any number may exist."""
    return EnvParts(
        disk=RealDisk(),
        clock=RealClock(),
        entropy=RealEntropy(),
        host=RealHost(),
        threads=RealThreads(),
        network=RealNetwork(),
        processes=RealProcesses(),
    )
