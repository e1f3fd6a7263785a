"""The server's process: what `headrace serve` runs, with its events as JSON lines on stdout.

    server_process.py DIRECTORY PROFILE [log.snapshot_age_ms=1000 stalls=1 …]

`stalls=1` adds a timer of STALL_STEP_MS; the event `snapshot_published` then says how
late the loop ran it while the snapshot was taken. PROFILE (a path or ``) takes a cProfile.
"""

from __future__ import annotations

import asyncio
import cProfile
import os
import signal
import sys
from collections import deque
from typing import Any

import msgspec
import uvloop

from headrace.model.settings import Settings
from headrace.runtime.env import real_env
from headrace.server.compose import serve

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness.figures import spread

STALL_STEP_MS = 1
DRAIN_MS = 1_000


class Stalls:
    """How late a timer of the loop was, of the last minutes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._late: deque[tuple[float, float]] = deque(maxlen=300_000)
        self._due_s = loop.time()
        self._tick()

    def _tick(self) -> None:
        now_s = self._loop.time()
        self._late.append((now_s, now_s - self._due_s))
        self._due_s = now_s + STALL_STEP_MS / 1e3
        self._loop.call_at(self._due_s, self._tick)

    def since(self, seconds: float) -> list[float]:
        from_s = self._loop.time() - seconds
        return [late_s for at_s, late_s in self._late if at_s >= from_s]


async def main(directory: str, options: dict[str, int]) -> None:
    loop = asyncio.get_running_loop()
    stalls = Stalls(loop) if options.pop("stalls", 0) else None
    ended = asyncio.Event()

    def report(event: str, **fields: Any) -> None:
        if event == "snapshot_published" and stalls is not None:
            fields |= spread("stall", stalls.since(fields["duration_ms"] / 1e3))
        line = msgspec.json.encode({"event": event, **fields}, enc_hook=str)
        print(line.decode(), flush=True)

    server = await serve(
        real_env(),
        directory,
        _settings(options),
        report=report,
        on_failed=lambda error: ended.set(),
    )
    address = next(url for url in server.urls if url.startswith("headrace://"))
    report("ready", address=address.removeprefix("headrace://"))
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await server.stop(DRAIN_MS)


def _settings(options: dict[str, int]) -> Settings:
    """All defaults, a port of its own, and what the scenario asks for."""
    settings = msgspec.to_builtins(Settings())
    settings["server"]["listen"] = ["127.0.0.1:0"]
    for name, value in options.items():
        section, _, field = name.partition(".")
        settings[section][field] = value
    return msgspec.convert(settings, Settings)


if __name__ == "__main__":
    _, directory, profile, *pairs = sys.argv
    chosen = {name: int(value) for name, _, value in (pair.partition("=") for pair in pairs)}
    profiler = cProfile.Profile() if profile else None
    if profiler is not None:
        profiler.enable()
    uvloop.run(main(directory, chosen))
    if profiler is not None:
        profiler.disable()
        profiler.dump_stats(profile)
