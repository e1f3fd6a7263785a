"""What the SDK's end-to-end tests share: a real server, workers, and child programs.

Servers of `serving` live in the test's own process and loop, on a Unix socket in a fresh
directory; `ServerProcess` is `headrace serve` as a user starts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from headrace import App, Worker, WorkerOptions
from headrace.model.settings import ServerSettings, Settings
from headrace.runtime.env import real_env
from headrace.server.compose import RunningServer, serve

SETTINGS = Settings(server=ServerSettings(listen=(), unix_socket=True))


@contextlib.asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[str]:
    """The URL of a server that lives as long as the block."""
    server: RunningServer = await serve(real_env(), str(directory), SETTINGS)
    try:
        yield server.urls[0]
    finally:
        await server.stop(0)


class Events:
    """Reports of a worker, to be waited for."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self._changed = asyncio.Event()

    def __call__(self, event: str, **fields: Any) -> None:
        self.seen.append((event, fields))
        self._changed.set()

    def names(self) -> list[str]:
        return [event for event, _ in self.seen]

    async def wait_for(self, event: str) -> dict[str, Any]:
        while True:
            for name, fields in self.seen:
                if name == event:
                    return fields
            self._changed.clear()
            await self._changed.wait()


@contextlib.asynccontextmanager
async def working(
    app: App, *, target: str = "", report: Events | None = None, **options: Any
) -> AsyncIterator[Worker]:
    """A worker that runs as long as the block, and has drained at its end."""
    worker = Worker(app, WorkerOptions(**options), target=target, report=report or Events())
    running = asyncio.create_task(worker.run())
    try:
        await _first(worker.started(), running)
        yield worker
    finally:
        worker.stop()
        await running


async def until(condition: Callable[[], Any], what: str = "it") -> None:
    """`condition` holds; looked at in every pass of the loop and after every call of `poke`."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def _first(waited: Any, running: asyncio.Task[None]) -> None:
    waiting = asyncio.ensure_future(waited)
    await asyncio.wait([waiting, running], return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        waiting.cancel()
        running.result()


class ServerProcess:
    """`headrace serve` in a process of its own, on a TCP port that stays the same."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._address = "127.0.0.1:0"
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> None:
        """It takes calls."""
        arguments = ["serve", str(self._directory), "--listen", self._address]
        program = "import sys; from headrace.cli.main import main; sys.exit(main())"
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if "headrace://" in line:
                self.url = "headrace://" + line.split("headrace://")[1].split()[0]
            if line.strip() == "ready":
                break
        assert self.url, "the server did not start"
        self._address = self.url.removeprefix("headrace://")

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        self._process.wait(20)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None


class Program:
    """A Python program in a process of its own, spoken to by lines."""

    def __init__(self, source: str, *arguments: str, cwd: Path | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", source, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=cwd,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def line(self) -> str:
        """The next line that it prints; `` when it has ended."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> int:
        """Its input is closed; its exit code."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            return self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
