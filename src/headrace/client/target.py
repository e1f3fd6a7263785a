"""Where an application's jobs go: a server by its URL, or a data directory of this machine.

A target makes links; it holds no connection itself, so it can be shared by loops, threads
and forked children.
"""

from __future__ import annotations

import asyncio
import os.path
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from headrace.client.connection import parse_url
from headrace.client.reconnect import Link, LinkOptions
from headrace.model.commands import Command
from headrace.model.env import Env
from headrace.model.errors import HeadraceError
from headrace.model.handshake import Welcome
from headrace.model.pushes import Push

URL_VARIABLE = "HEADRACE_URL"
TOKEN_VARIABLE = "HEADRACE_TOKEN"
DIRECTORY_DEFAULT = "./data"


class LinkEvents(msgspec.Struct, frozen=True):
    """What the user of a link wants to be told; all of it on the link's loop."""

    on_push: Callable[[Push], None] = lambda push: None
    on_connected: Callable[[Welcome], None] = lambda welcome: None
    on_lost: Callable[[HeadraceError], None] = lambda error: None
    on_failed: Callable[[HeadraceError], None] = lambda error: None


class AnyLink(Protocol):
    """What clients and workers use of a `Link`; the test kit has one without a socket."""

    @property
    def connected(self) -> bool: ...

    @property
    def failure(self) -> HeadraceError | None:
        """Why it will never connect again."""

    @property
    def last_exchange_age_ms(self) -> int: ...

    async def start(self) -> Welcome: ...

    def call(self, command: Command) -> asyncio.Future[Any]: ...

    def send(self, command: Command) -> bool: ...

    def set_session(self, session_id: bytes | None, mode: int) -> None: ...

    async def close(self) -> None: ...


class Target(Protocol):
    @property
    def url(self) -> str:
        """As messages show it."""

    @property
    def needs_heartbeat(self) -> bool:
        """Leases end without one; False only where nothing expires, in tests."""

    def make_link(self, events: LinkEvents) -> AnyLink:
        """One for the running loop, not connected yet."""

    def forget_after_fork(self) -> None:
        """In a forked child: nothing of the parent's is used, or closed in its name."""


class ServerTarget:
    """A server at a URL."""

    needs_heartbeat = True

    def __init__(self, env: Env, url: str, token: str | None) -> None:
        self._env = env
        self._options = LinkOptions(token=token)
        parse_url(url)
        self.url = url

    def make_link(self, events: LinkEvents) -> AnyLink:
        return Link(
            self._env,
            self.url,
            self._options,
            on_push=events.on_push,
            on_connected=events.on_connected,
            on_lost=events.on_lost,
            on_failed=events.on_failed,
        )

    def forget_after_fork(self) -> None:
        pass


def target_of(env: Env, url: str | None, token: str | None) -> Target:
    """Of what the application names; else of HEADRACE_URL; else of `./data`.

    Raises: `BadRequest` for a URL of no known form.
    """
    environ = env.host.environ()
    named = url or environ.get(URL_VARIABLE) or DIRECTORY_DEFAULT
    token = token or environ.get(TOKEN_VARIABLE) or None
    if is_directory(named):
        from headrace.client.embedded import EmbeddedTarget

        path = os.path.normpath(os.path.join(env.host.working_directory(), named))
        return EmbeddedTarget(env, path)
    return ServerTarget(env, named, token)


def is_directory(url: str) -> bool:
    """Whether `url` is a path rather than the address of a server."""
    return "://" not in url and not url.startswith("unix:")
