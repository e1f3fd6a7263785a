"""The server as a process of its own, seen from the benchmark: start, events, usage, end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from typing import Any

import msgspec

_SCRIPT = os.path.join(os.path.dirname(__file__), "server_process.py")
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Usage(msgspec.Struct, frozen=True):
    """What a process has used so far."""

    at_s: float
    cpu_s: float
    rss_bytes: int

    @staticmethod
    def of(pid: int) -> Usage:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            pages = int(file.read().split()[1])
        ticks = int(fields[11]) + int(fields[12])
        return Usage(time.monotonic(), ticks / _TICKS_A_SECOND, pages * _PAGE_BYTES)

    def percent_since(self, before: Usage) -> float:
        """Of one core."""
        return 100 * (self.cpu_s - before.cpu_s) / max(self.at_s - before.at_s, 1e-9)


def machine_busy_s() -> float:
    """Seconds of processor time that everybody on this machine has used so far, all cores."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS_A_SECOND


class ServerProcess:
    """Use `start`; `stop` or `kill` ends it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.events: list[dict[str, Any]] = []
        """What the node reported, oldest first."""
        self.url = ""
        self._process = process
        self._changed = asyncio.Event()
        self._reading = asyncio.get_running_loop().create_task(self._read())

    @classmethod
    async def start(
        cls, directory: str, settings: dict[str, int], profile: str = ""
    ) -> ServerProcess:
        """It serves `directory`/node at `url`. `profile`: a file for its cProfile."""
        arguments = [f"{name}={value}" for name, value in settings.items()]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            _SCRIPT,
            os.path.abspath(os.path.join(directory, "node")),
            profile,
            *arguments,
            stdout=asyncio.subprocess.PIPE,
        )
        server = cls(process)
        server.url = "headrace://" + str((await server.event("ready"))["address"])
        return server

    @property
    def pid(self) -> int:
        return self._process.pid

    def usage(self) -> Usage:
        return Usage.of(self.pid)

    async def event(self, name: str, *, count: int = 1) -> dict[str, Any]:
        """The `count`-th event of that name, once it has come."""
        while True:
            found = [event for event in self.events if event["event"] == name]
            if len(found) >= count:
                return found[count - 1]
            if self._process.returncode is not None and self._reading.done():
                raise SystemExit(f"the server ended ({self._process.returncode}) before {name!r}")
            self._changed.clear()
            await self._changed.wait()

    async def stop(self) -> None:
        """It has stopped by itself."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
        await self._process.wait()
        await self._reading

    async def kill(self) -> None:
        """It is gone, as after a loss of power of the process."""
        self._process.kill()
        await self.stop()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.events.append(msgspec.json.decode(line))
            self._changed.set()
        await self._process.wait()
        self._changed.set()
