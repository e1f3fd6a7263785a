"""Where a command goes: a server by its URL, the owner of a directory, or the directory itself.

A directory that nobody runs on is opened, used and closed by the command; it is not made,
unless the command says so: a mistyped path must not become a queue.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headrace.cli.config import Loaded
from headrace.cli.exits import UsageFault
from headrace.cli.options import Remote
from headrace.client.client import Client
from headrace.client.reconnect import Link, LinkOptions
from headrace.client.target import TOKEN_VARIABLE, is_directory
from headrace.model.env import Env
from headrace.model.errors import BadRequest, CannotConnect
from headrace.model.handshake import Welcome
from headrace.runtime.env import real_env
from headrace.server.exposure import read_token

CLIENT_NAME = "headrace-cli"


class Reached:
    """A connection for one command."""

    def __init__(self, client: Client, welcome: Welcome, where: str) -> None:
        self.client = client
        self.welcome = welcome
        self.where = where
        """For people: the URL, or the directory."""


@asynccontextmanager
async def reached(options: Remote, *, create: bool = False) -> AsyncIterator[Reached]:
    """Connected while the block runs.

    `create`: a data directory that is not there is made. Raises: `BadSettings`;
    `CannotConnect`; what a refused connection or a damaged directory raises.
    """
    loaded = options.loaded()
    env = real_env()
    url = loaded.settings.client.url
    if not is_directory(url):
        async with _server(env, loaded, url) as found:
            yield found
        return
    from headrace.cli.directory import opened_directory

    path = os.path.abspath(os.path.expanduser(url))
    async with opened_directory(env, loaded, path, create=create) as link:
        yield _reached(env, link, path)


@asynccontextmanager
async def _server(env: Env, loaded: Loaded, url: str) -> AsyncIterator[Reached]:
    link = link_to(env, url, loaded)
    try:
        await link.start()
    except CannotConnect as error:
        raise CannotConnect(
            error.message, hint=error.hint or "Is the server running? `headrace serve DIR`."
        ) from error
    try:
        yield _reached(env, link, url)
    finally:
        await link.close()


def link_to(env: Env, url: str, loaded: Loaded) -> Link:
    """Not connected yet. Raises: `UsageFault` for what is no URL."""
    try:
        return Link(env, url, LinkOptions(token=token_of(loaded), client_name=CLIENT_NAME))
    except BadRequest as error:
        raise UsageFault(error.message, hint=error.hint) from error


def token_of(loaded: Loaded) -> str | None:
    """What a server on TCP may ask for. Raises: `BadSettings` when its file cannot be read."""
    path = loaded.settings.client.token_file
    return read_token(real_env().disk, path) or os.environ.get(TOKEN_VARIABLE) or None


def _reached(env: Env, link: Link, where: str) -> Reached:
    assert link.welcome is not None  # `start` returned
    return Reached(Client(link, env), link.welcome, where)
