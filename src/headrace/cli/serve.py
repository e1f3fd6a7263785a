"""`headrace serve`: a server until it is told to stop.

Standard output has one line per address, then `ready`; everything else is the log, on
standard error. SIGTERM or Ctrl-C drains within `server.drain_ms`; a second one stops at
once: everything acknowledged is on the disk either way.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated, Literal

from cyclopts import Parameter

from headrace.cli.application import noun, run
from headrace.cli.config import Loaded, load
from headrace.cli.exits import INTERRUPTED, OK, UsageFault
from headrace.cli.logging import open_report
from headrace.cli.output import print_line
from headrace.cli.signals import on_stop_signal
from headrace.cli.succession import serve_after
from headrace.cli.systemd import notify
from headrace.client.target import DIRECTORY_DEFAULT, is_directory
from headrace.model.errors import Unsupported
from headrace.model.settings import Settings
from headrace.runtime.env import real_env
from headrace.server.compose import RunningServer

app = noun("serve")


@app.default
def serve(
    directory: str | None = None,
    /,
    *,
    listen: list[str] | None = None,
    unix_socket: Annotated[bool | None, Parameter(negative="--no-unix-socket")] = None,
    token_file: str | None = None,
    insecure_plaintext: bool | None = None,
    connections_max: int | None = None,
    drain: str | None = None,
    log_level: Literal["debug", "info", "warning", "error"] | None = None,
    log_format: Literal["auto", "text", "json"] | None = None,
    config: str | None = None,
    debug: Annotated[bool, Parameter(help="Show the traceback of an error.")] = False,
) -> int:
    """Run a server on a data directory, which is made when it is not there.

    Every other setting of headrace.toml has a variable, as HEADRACE_LOG__SEGMENT_BYTES;
    `headrace config show` lists them all.

    Args:
        directory: The data directory; ./data when none is named.
        listen: TCP address as HOST:PORT; may be given several times.
        unix_socket: Listen on the Unix socket in the data directory.
        token_file: File with the token that clients must bring.
        insecure_plaintext: Allow --listen beyond loopback although nothing is encrypted:
            whoever sits in between can read tokens, payloads and results. Needs
            --token-file.
        connections_max: Connections at one time.
        drain: Grace at a stop for workers to finish what they run, as 30s.
        log_level: Events below it are left out.
        log_format: text, json, or auto: text on a terminal.
        config: Read settings from this file instead of ./headrace.toml.
    """
    flags = {
        "server.listen": listen,
        "server.unix_socket": unix_socket,
        "server.token_file": token_file,
        "server.insecure_plaintext": insecure_plaintext,
        "server.connections_max": connections_max,
        "server.drain_ms": drain,
        "logging.level": log_level,
        "logging.format": log_format,
    }
    loaded = load(flags, os.environ, config=config)
    if sys.platform == "win32":
        raise Unsupported(
            "A headrace server does not run on Windows: it needs file locks and syncs as Unix"
            " has them.",
            hint="Run it on Linux or macOS, and connect with --url headrace://HOST:PORT.",
        )
    return run(_Serving(loaded.settings, directory_of(loaded, directory)).until_stopped())


def directory_of(loaded: Loaded, named: str | None) -> str:
    """Absolute path of the directory meant: named, or of client.url, or ./data."""
    url = loaded.settings.client.url
    return local_path(named or (url if is_directory(url) else DIRECTORY_DEFAULT))


def local_path(named: str) -> str:
    """Absolute. Raises: `UsageFault` for the URL of a server."""
    if not is_directory(named):
        raise UsageFault(
            f"{named} is no directory.", hint="This command works on the machine of the data."
        )
    return os.path.abspath(os.path.expanduser(named))


class _Serving:
    def __init__(self, settings: Settings, directory: str) -> None:
        self._settings = settings
        self._directory = directory
        self._stop_asked = asyncio.Event()
        self._hurried = asyncio.Event()
        self._failure: BaseException | None = None

    async def until_stopped(self) -> int:
        """The exit code. Raises: what kept the server from starting, or made it end."""
        loop = asyncio.get_running_loop()
        on_stop_signal(loop, self._on_signal)
        server = await serve_after(
            real_env(),
            self._directory,
            self._settings,
            report=open_report(self._settings.logging),
            on_failed=self._on_failed,
            on_ready=_announce,
        )
        await self._stop_asked.wait()
        notify("STOPPING=1")
        await self._stop(server)
        if self._failure is not None:
            raise self._failure
        return INTERRUPTED if self._hurried.is_set() else OK

    async def _stop(self, server: RunningServer) -> None:
        drain_ms = 0 if self._failure or self._hurried.is_set() else self._settings.server.drain_ms
        async with asyncio.TaskGroup() as tasks:
            hurry = tasks.create_task(self._hurry(server))
            await server.stop(drain_ms)
            hurry.cancel()

    async def _hurry(self, server: RunningServer) -> None:
        await self._hurried.wait()
        await server.stop(0)

    def _on_signal(self) -> None:
        if self._stop_asked.is_set():
            self._hurried.set()
        self._stop_asked.set()

    def _on_failed(self, error: BaseException) -> None:
        self._failure = error
        self._stop_asked.set()


def _announce(urls: list[str]) -> None:
    for url in urls:
        print_line(f"listening on {url}")
    print_line("ready")
    notify("READY=1")
