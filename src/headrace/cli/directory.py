"""A data directory for one command: through its owner, or opened here when it has none.

Who comes while another process is just opening or closing the directory waits for a
moment; who meets an owner that lives and does not answer is told its pid.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import msgspec

from headrace.cli.config import Loaded
from headrace.cli.exits import say
from headrace.client.reconnect import Link, LinkOptions
from headrace.model.env import Env
from headrace.model.errors import CannotConnect, HeadraceError, Locked, OwnerUnresponsive
from headrace.model.limits import OWNER_UNRESPONSIVE_MS
from headrace.model.settings import Settings
from headrace.server.compose import RunningServer, serve
from headrace.server.listeners import socket_path

OPTIONS = LinkOptions(client_name="headrace-cli")
"""No token: nobody but the owner of the directory can open its socket."""
RETRY_MS = 50


@asynccontextmanager
async def opened_directory(
    env: Env, loaded: Loaded, path: str, *, create: bool
) -> AsyncIterator[Link]:
    """A link to whoever runs on `path`, which is this process when nobody did.

    Raises: `CannotConnect` when there is no directory and `create` is false;
    `OwnerUnresponsive`; the stop codes of a directory that must not be opened.
    """
    _check_there(env, path, create)
    opening = _Opening(env, loaded.settings, path)
    try:
        await opening.start()
        yield opening.link
    except HeadraceError:
        opening.check()  # a refusal may be only a consequence
        raise
    finally:
        await opening.close()


def socket_url(path: str) -> str:
    return f"unix://{quote(socket_path(path))}"


def has_data(env: Env, path: str) -> bool:
    from headrace.log.file.layout import Layout

    return env.disk.stat(Layout(path).meta) is not None


def _check_there(env: Env, path: str, create: bool) -> None:
    if has_data(env, path):
        return
    if not create:
        raise CannotConnect(
            f"{path} is no data directory.",
            hint="Name another with --url, or make one: `headrace serve DIR`.",
        )
    say(f"making a new data directory, {path}.")


class _Opening:
    """The link of one command, and the server behind it if it runs in this process."""

    def __init__(self, env: Env, settings: Settings, path: str) -> None:
        self._env = env
        self._settings = _private(settings)
        self._path = path
        self._server: RunningServer | None = None
        self._failure: BaseException | None = None
        """Why the directory cannot be used any more."""
        self._ending: asyncio.Task[None] | None = None
        """This process serves the directory no more: another one shall, or nobody can."""
        self.link = Link(env, socket_url(path), OPTIONS, before_attempt=self._take_over)

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + OWNER_UNRESPONSIVE_MS / 1_000
        while True:
            try:
                await self.link.start()
                return
            except CannotConnect:
                locked = await self._serve_if_free()
            if locked is not None:
                if loop.time() > deadline_s:
                    raise _unresponsive(self._path, locked) from locked
                await asyncio.sleep(RETRY_MS / 1_000)

    def check(self) -> None:
        """Raises: the reason why the directory cannot be used any more, if there is one."""
        if self._failure is not None:
            raise self._failure

    async def close(self) -> None:
        await self.link.close()
        if self._ending is not None:
            await self._ending
        if self._server is not None:
            await self._server.stop(0)

    async def _take_over(self) -> None:
        """The owner has ended in the middle of this command: somebody must serve it on."""
        if self._server is None and self._ending is None:
            await self._serve_if_free()

    async def _serve_if_free(self) -> Locked | None:
        try:
            self._server = await serve(
                self._env,
                self._path,
                self._settings,
                hand_over=self._hand_over,
                on_failed=self._on_failed,
            )
        except Locked as locked:
            return locked
        return None

    def _hand_over(self, reason: str) -> None:
        """A server wants the directory: it gets it, and the link finds that server."""
        self._end(self._stop_serving())

    def _on_failed(self, error: BaseException) -> None:
        """The log is lost: waiting for another answer is pointless."""
        self._end(self._give_up(error))

    def _end(self, ending: Coroutine[Any, Any, None]) -> None:
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(ending)
        else:
            ending.close()

    async def _give_up(self, error: BaseException) -> None:
        self._failure = error
        await self.link.close(CannotConnect("The directory cannot be used any more."))
        await self._stop_serving()

    async def _stop_serving(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.stop(0)


def _private(settings: Settings) -> Settings:
    """Nobody but this machine's user can connect."""
    server = msgspec.structs.replace(settings.server, listen=(), unix_socket=True)
    return msgspec.structs.replace(settings, server=server)


def _unresponsive(path: str, locked: Locked) -> OwnerUnresponsive:
    pid, host = locked.details.get("pid", 0), locked.details.get("host", "")
    return OwnerUnresponsive(
        f"{path} is in use by process {pid} on host {host}, which does not answer.",
        hint="It may be starting or stopped. If it has no Unix socket, name its TCP address.",
        pid=pid,
        host=host,
    )
