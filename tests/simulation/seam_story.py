"""A server, clients, workers and an embedded directory in one simulated machine.

    python -m tests.simulation.seam_story [--watched] [--broken]

Prints as JSON what the processes said to each other and wrote, as digests, and with
`--watched` every system call that came from their code. `--broken` makes one, so that the
watch can be seen to work. An interpreter of its own, since what is watched is all of it, and
since its hash seed is part of the question.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import headrace
from headrace import App, JobContext, Retry, Worker, WorkerOptions
from headrace.model.env import Env
from headrace.model.settings import ServerSettings, Settings
from headrace.server.compose import serve
from headrace.testing.sim_disk import SimDisk
from headrace.testing.sim_loop import SimLoop
from headrace.testing.sim_process import SimMachine

SOURCES = f"{Path(headrace.__file__).parent}/"
WATCHED_LAYERS = ("client", "codec", "engine", "log", "model", "protocol", "runtime", "server")
SYSTEM_MODULES = ("_io", "_random", "_socket", "fcntl", "posix", "select", "signal", "time")
SYSTEM_CALLS = ("_thread.start_new_thread",)
PURE_CALLS = ("posix._path_normpath", "posix.fspath")
SYSTEM_EVENTS = ("fcntl.", "open", "os.", "socket.", "subprocess.", "tempfile.", "time.")
EXCEPTED_FILES = (
    "client/failures.py",  # the application's source lines, for the text of an error
    "client/reports.py",  # what the host process does with its log lines is its own affair
)
URL = "headrace://127.0.0.1:7431"
JOB_COUNT = 40


class Watch:
    """System calls whose innermost code of headrace is one of the layers behind the seam."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._on = False

    @contextmanager
    def on(self) -> Iterator[None]:
        sys.addaudithook(self._audit)
        self._on = True
        sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(None)
            self._on = False

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._on and event.startswith(SYSTEM_EVENTS):
            self._note(event, sys._getframe(1))

    def _profile(self, frame: FrameType, event: str, called: Any) -> None:
        if event == "c_call":
            module = getattr(called, "__module__", None)
            name = f"{module}.{called.__qualname__}"
            if name in SYSTEM_CALLS or (module in SYSTEM_MODULES and name not in PURE_CALLS):
                self._note(name, frame)

    def _note(self, what: str, frame: FrameType | None) -> None:
        while frame is not None and not frame.f_code.co_filename.startswith(SOURCES):
            frame = frame.f_back
        if frame is None:
            return
        path = frame.f_code.co_filename.removeprefix(SOURCES)
        if path.split("/")[0] in WATCHED_LAYERS and path not in EXCEPTED_FILES:
            self.seen.append(f"{what} at {path}:{frame.f_lineno}")


def application(env: Env, url: str) -> App:
    app = App(url, env=env)

    @app.job(queue="mail", retry=Retry(attempts=3, base="100ms"))
    async def send(ctx: JobContext, number: int) -> int:
        ctx.progress({"at": number})
        ctx.log(f"number {number}")
        await asyncio.sleep(0.01)
        if number % 7 == 0 and ctx.attempt == 1:
            raise ValueError(f"{number} fails once")
        return number * 2

    @app.job(queue="slow", timeout="1s", tags=("a", "b"))
    async def linger(number: int) -> None:
        await asyncio.sleep(number)

    return app


async def serve_for_ever(env: Env) -> None:
    settings = Settings(server=ServerSettings(listen=("127.0.0.1:7431",), unix_socket=True))
    await serve(env, "/served", settings, owns_process=False)
    await asyncio.Event().wait()


async def work(env: Env, url: str) -> None:
    worker = Worker(application(env, url), WorkerOptions(concurrency=4, lease_ms=5_000))
    asyncio.get_running_loop().call_later(60, worker.stop)
    await worker.run()


async def produce(env: Env, url: str) -> list[int]:
    app = application(env, url)
    send, linger = app.job_types["send"], app.job_types["linger"]
    async with app:
        await app.enqueue_many([linger.job(number) for number in (0, 1, 30)])
        handles = [await send.enqueue(number) for number in range(JOB_COUNT)]
        await asyncio.gather(*(send.enqueue(number) for number in range(JOB_COUNT)))
        return [await handle.result("60s") for handle in handles]


async def day(machine: SimMachine) -> None:
    """A server with two workers; a directory that loses its owner; connections that are reset."""
    server = machine.start("server", serve_for_ever)
    workers = [machine.start(f"worker {no}", lambda env: work(env, URL)) for no in range(2)]
    await asyncio.sleep(1)
    producer = machine.start("producer", lambda env: produce(env, URL))
    owner = machine.start("owner", lambda env: work(env, "/owned"))
    await asyncio.sleep(0.05)
    other = machine.start("other", lambda env: produce(env, "/owned"))
    await asyncio.sleep(0.05)
    for connection in machine.network.connections():
        connection.reset()
    await asyncio.sleep(0.2)
    owner.kill()
    successor = machine.start("successor", lambda env: work(env, "/owned"))
    for process in (producer, other):
        assert await process.result() == [2 * number for number in range(JOB_COUNT)]
    for process in (*workers, successor):
        await process.result()
    server.kill()


def run(seed: int) -> dict[str, Any]:
    loop = SimLoop()
    machine = SimMachine(loop, seed)
    machine.network.traffic = []
    try:
        loop.run_until_complete(day(machine))
    finally:
        loop.close()
    return {
        "traffic": digest_of(repr(machine.network.traffic).encode()),
        "messages": len(machine.network.traffic),
        "disk": {path: digest_of(content) for path, content in files(machine.disk, "/")},
        "errors": [f"{name}: {context}" for name, context in machine.errors],
    }


def files(disk: SimDisk, directory: str) -> Iterator[tuple[str, bytes]]:
    for name in disk.listdir(directory):
        path = f"{directory.rstrip('/')}/{name}"
        found = disk.stat(path)
        assert found is not None
        if found.is_dir:
            yield from files(disk, path)
        else:
            fd = disk.open(path)
            yield path, disk.pread(fd, found.size_bytes, 0)
            disk.close(fd)


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def import_everything() -> None:
    """What is imported later would open files."""
    for module in pkgutil.walk_packages(headrace.__path__, "headrace."):
        if module.name.split(".")[1] in WATCHED_LAYERS and "child" not in module.name:
            importlib.import_module(module.name)


def break_the_rule() -> None:
    source = "import os, time\nos.stat('/')\ntime.monotonic()\nopen('/dev/null').close()\n"
    exec(compile(source, f"{SOURCES}runtime/broken.py", "exec"), {})


def main(arguments: list[str]) -> None:
    import_everything()
    watch = Watch()
    if "--watched" in arguments:
        run(1)  # what is cached by a first run is not read again
        with watch.on():
            if "--broken" in arguments:
                break_the_rule()
            story = run(1)
    else:
        story = run(1)
    print(json.dumps({**story, "system_calls": watch.seen}))


if __name__ == "__main__":
    main(sys.argv[1:])
