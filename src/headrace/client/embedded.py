"""A data directory as a queue: `App("./data")`, from as many processes as there are.

Theory. Whoever gets the lock of the directory owns it and runs engine and server in a
thread and a loop of its own; everybody, the owner included, talks to it through the Unix
socket in the directory. So there is one way for a call to go, and ownership is nobody's
concern but this module's:

- A link that finds nobody behind the socket tries to become the owner, then connects.
  Only one process gets the lock; the others find the new owner a moment later. Calls in
  flight are repeated by their links, with their ids.
- An owner that ends in good order says so (`draining`), and the others hold back for a
  moment, so that a server that asked for the directory gets it first.
- After a fork the child owns nothing: it lets go of what it inherited (a lock ends only
  when nobody holds it any more), and connects like any other process.

Must never run on a loop of the application, and never end its process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from headrace.client.connections import BackgroundLoop
from headrace.client.reconnect import Link, LinkOptions
from headrace.client.target import AnyLink, LinkEvents
from headrace.log.file.layout import Layout
from headrace.log.file.lock import Holder, read_holder
from headrace.model.env import Env
from headrace.model.errors import (
    CannotConnect,
    Draining,
    HeadraceError,
    Locked,
    OwnerUnresponsive,
    Unsupported,
)
from headrace.model.handshake import Welcome
from headrace.model.limits import (
    HAND_OVER_PAUSE_MS,
    OWNER_UNRESPONSIVE_MS,
    SUCCESSION_PAUSE_MS,
    SUCCESSION_RETRY_MS,
)
from headrace.model.settings import ServerSettings, Settings
from headrace.server.listeners import socket_path

if TYPE_CHECKING:
    from headrace.server.compose import RunningServer

_SETTINGS = Settings(server=ServerSettings(listen=(), unix_socket=True))
_GRAVE = ("failed", "full", "refused", "stalled", "jumped")
_abandoned: list[object] = []
"""What a forked child inherited; see `connections`."""


class EmbeddedTarget:
    """One data directory, as an application of this process sees it."""

    needs_heartbeat = True

    def __init__(self, env: Env, directory: str) -> None:
        self.url = directory
        self._env = env
        self._ownership = _ownership_of(env, directory)

    def make_link(self, events: LinkEvents) -> AnyLink:
        if sys.platform == "win32":
            raise Unsupported(
                f"{self.url} is a data directory, and headrace keeps none on Windows: it needs"
                " file locks and syncs as Unix has them.",
                hint='Run a server on Linux or macOS, and use App("headrace://HOST:PORT").',
            )
        return EmbeddedLink(self._env, self._ownership, events)

    def forget_after_fork(self) -> None:
        self._ownership.forget_after_fork()

    def holder(self) -> Holder:
        """Who owns the directory, or owned it last."""
        return self._ownership.holder()


class Ownership:
    """Of one directory by this process: at most one, shared by all its applications."""

    def __init__(self, env: Env, directory: str) -> None:
        self.directory = directory
        self._env = env
        self._pid = env.host.pid()
        self._lock = threading.Lock()
        self._engine: BackgroundLoop | None = None
        self._server: RunningServer | None = None
        self._links: weakref.WeakSet[EmbeddedLink] = weakref.WeakSet()
        self._not_before_ns = 0
        env.processes.on_exit(self.release)

    @property
    def is_ours(self) -> bool:
        return self._server is not None

    def holder(self) -> Holder:
        """Who wrote its name into LOCK last."""
        return read_holder(self._env.disk, Layout(self.directory))

    def try_take(self) -> None:
        """This process owns the directory, or another one does. Blocks: not for a loop.

        Raises: the stop codes of a directory that cannot be used.
        """
        with self._lock:
            if self.is_ours or self._env.clock.mono_ns() < self._not_before_ns:
                return
            engine = BackgroundLoop(self._env, "headrace-engine")
            try:
                self._server = engine.run(self._serve())
            except Locked:
                engine.stop()
                return
            except BaseException:
                engine.stop()
                raise
            self._engine = engine

    def release(self) -> None:
        """The directory is free, if it was ours. Blocks."""
        with self._lock:
            engine, server = self._engine, self._server
            self._engine = self._server = None
            if engine is not None and server is not None and self._env.host.pid() == self._pid:
                with contextlib.suppress(HeadraceError):
                    engine.run(server.stop(0))
                engine.stop()

    def joined(self, link: EmbeddedLink) -> None:
        self._links.add(link)

    def left(self, link: EmbeddedLink) -> None:
        """The last link of this process takes the ownership with it. Blocks."""
        self._links.discard(link)
        if not any(other.is_usable for other in self._links):
            self.release()

    def forget_after_fork(self) -> None:
        """In a forked child. Harmless when repeated."""
        pid = self._env.host.pid()
        if pid == self._pid:
            return
        self._pid = pid
        _abandoned.append((self._engine, self._server, self._lock, list(self._links)))
        self._engine = self._server = None
        self._links = weakref.WeakSet()
        self._lock = threading.Lock()
        self._env.processes.close_inherited(self.directory)

    async def _serve(self) -> RunningServer:
        # Engine and server are half of what there is to import, and one process needs them.
        from headrace.server.compose import serve

        return await serve(
            self._env,
            self.directory,
            _SETTINGS,
            report=_report,
            on_failed=lambda error: self._give_up_soon(0),
            hand_over=lambda reason: self._give_up_soon(HAND_OVER_PAUSE_MS),
            owns_process=False,
        )

    def _give_up_soon(self, pause_ms: int) -> None:
        """On the engine's loop: the directory is somebody else's to take."""
        self._not_before_ns = self._env.clock.mono_ns() + pause_ms * 1_000_000
        self._env.threads.start("headrace-release", self.release)


class EmbeddedLink(Link):
    """A link that sees to it that somebody is behind the socket."""

    def __init__(self, env: Env, ownership: Ownership, events: LinkEvents) -> None:
        self._ownership = ownership
        self._events = events
        self._owner_left = False
        super().__init__(
            env,
            f"unix://{quote(socket_path(ownership.directory))}",
            LinkOptions(backoff_ms_max=SUCCESSION_RETRY_MS, connect_ms=OWNER_UNRESPONSIVE_MS),
            on_push=events.on_push,
            on_connected=events.on_connected,
            on_lost=self._note_lost,
            on_failed=events.on_failed,
            before_attempt=self._find_owner,
        )

    @property
    def is_usable(self) -> bool:
        """Its loop still exists."""
        return self.failure is None and not self._loop.is_closed()

    async def start(self) -> Welcome:
        """As `Link.start`; somebody owns the directory then.

        Raises: `OwnerUnresponsive` naming its pid when the owner does not answer; the stop
        codes of a directory that cannot be used.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + OWNER_UNRESPONSIVE_MS / 1_000
        while True:
            try:
                welcome = await super().start()
            except (CannotConnect, Draining) as error:
                if loop.time() >= deadline_s:
                    raise self._unresponsive() from error
            else:
                self._ownership.joined(self)
                return welcome
            await self._take()
            if not self._ownership.is_ours:
                await asyncio.sleep(SUCCESSION_RETRY_MS / 1_000)

    async def close(self, error: HeadraceError | None = None) -> None:
        await super().close(error)
        await asyncio.get_running_loop().run_in_executor(None, self._ownership.left, self)

    def _note_lost(self, error: HeadraceError) -> None:
        self._owner_left = isinstance(error, Draining)
        self._events.on_lost(error)

    async def _find_owner(self) -> None:
        if self._owner_left:
            self._owner_left = False
            await asyncio.sleep(SUCCESSION_PAUSE_MS / 1_000)
        await self._take()

    async def _take(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._ownership.try_take)

    def _unresponsive(self) -> OwnerUnresponsive:
        holder = self._ownership.holder()
        return OwnerUnresponsive(
            f"{self._ownership.directory} is owned by {holder.describe()}, which does not answer.",
            hint="Is it stopped? Let it go on (kill -CONT), or end it and another takes over.",
            pid=holder.pid,
        )


_ownerships: dict[str, Ownership] = {}
_ownerships_lock = threading.Lock()


def _ownership_of(env: Env, directory: str) -> Ownership:
    with _ownerships_lock:
        if directory not in _ownerships:
            _ownerships[directory] = Ownership(env, directory)
        return _ownerships[directory]


def _report(event: str, **fields: Any) -> None:
    """To the logger `headrace.engine` of the host process, whose logging stays its own."""
    level = logging.WARNING if event.endswith(_GRAVE) else logging.INFO
    shown = " ".join(f"{name}={value!r}" for name, value in fields.items())
    logging.getLogger("headrace.engine").log(level, "%s %s", event, shown)
