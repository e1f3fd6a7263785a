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
import concurrent.futures
import contextlib
import enum
import logging
import sys
import threading
import weakref
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from headrace.client.reconnect import Link, LinkOptions
from headrace.client.target import AnyLink, LinkEvents
from headrace.log.base import Refused
from headrace.log.file.layout import Layout
from headrace.log.file.lock import Holder, read_holder
from headrace.model.env import Env, LoopThread
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
_STOP_S = 5.0
"""Longest wait at the end of the process for a thread that has nothing left to do."""
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


class _Outcome(enum.Enum):
    """What has become of the directory by an attempt to take or to leave it."""

    OURS = enum.auto()
    THEIRS = enum.auto()
    FREE = enum.auto()


class Ownership:
    """Of one directory by this process: at most one, shared by all its applications.

    Taking and leaving run on the engine's own loop, one of them at a time. Whoever comes
    meanwhile awaits the one under way on its own loop, and then looks again.
    """

    def __init__(self, env: Env, directory: str) -> None:
        self.directory = directory
        self._env = env
        self._pid = env.host.pid()
        self._lock = threading.Lock()
        """Held for a few steps, never while something is waited for."""
        self._change: Future[_Outcome] | None = None
        """The taking or leaving under way."""
        self._engine: LoopThread | None = None
        self._server: RunningServer | None = None
        self._links: list[EmbeddedLink] = []
        self._not_before_ns = 0
        env.processes.on_exit(self._release_at_exit)

    @property
    def is_ours(self) -> bool:
        return self._server is not None

    def holder(self) -> Holder:
        """Who wrote its name into LOCK last."""
        return read_holder(self._env.disk, Layout(self.directory))

    async def take(self) -> None:
        """This process owns the directory, or another one does.

        Raises: the stop codes of a directory that cannot be used.
        Cancellation: the attempt goes on, for the others who wait for it.
        """
        found = _Outcome.FREE
        while found is _Outcome.FREE and (change := self._toward_ours()) is not None:
            found = await asyncio.shield(asyncio.wrap_future(change))

    async def release(self) -> None:
        """The directory is free, if it was ours.

        Cancellation: it becomes free all the same.
        """
        found = _Outcome.OURS
        while found is not _Outcome.FREE and (change := self._toward_free()) is not None:
            with contextlib.suppress(Exception):  # of a taking, which others wait for
                found = await asyncio.shield(asyncio.wrap_future(change))

    def joined(self, link: EmbeddedLink) -> None:
        self._links = [other for other in self._links if other.is_usable]
        self._links.append(link)

    async def left(self, link: EmbeddedLink) -> None:
        """The last link of this process takes the ownership with it."""
        self._links = [other for other in self._links if other.is_usable and other is not link]
        if not self._links:
            await self.release()

    def forget_after_fork(self) -> None:
        """In a forked child. Harmless when repeated."""
        pid = self._env.host.pid()
        if pid == self._pid:
            return
        self._pid = pid
        _abandoned.append((self._engine, self._server, self._change, self._lock, self._links))
        self._engine = self._server = self._change = None
        self._links = []
        self._lock = threading.Lock()
        self._env.processes.close_inherited(self.directory)

    # --- inside

    def _toward_ours(self) -> Future[_Outcome] | None:
        """The change under way, or a taking begun now; None when the directory is ours
        already, or somebody else is to have it for a moment."""
        with self._lock:
            pausing = self._env.clock.mono_ns() < self._not_before_ns
            if self._change is None and not self.is_ours and not pausing:
                self._engine = self._env.threads.loop_thread("headrace-engine")
                self._begin(self._engine, self._taking())
            return self._change

    def _toward_free(self) -> Future[_Outcome] | None:
        """The change under way, or a leaving begun now; None when it is not ours."""
        with self._lock:
            engine, server = self._engine, self._server
            if self._change is None and engine is not None and server is not None:
                self._server = None
                self._begin(engine, self._leaving(server))
            return self._change

    def _begin(self, engine: LoopThread, change: Coroutine[Any, Any, _Outcome]) -> None:
        def ended(outcome: Future[_Outcome]) -> None:
            if outcome.cancelled() or outcome.exception() or outcome.result() is not _Outcome.OURS:
                engine.stop()

        self._change = engine.submit(change)
        self._change.add_done_callback(ended)

    async def _taking(self) -> _Outcome:
        server: RunningServer | None = None
        try:
            with contextlib.suppress(Locked):
                server = await self._serve()
        finally:
            with self._lock:
                self._server, self._change = server, None
                if server is None:
                    self._engine = None
        return _Outcome.THEIRS if server is None else _Outcome.OURS

    async def _leaving(self, server: RunningServer) -> _Outcome:
        try:
            await server.stop(0)
        except HeadraceError:
            pass  # a node that had failed has said so
        except Exception as bug:
            _report("release_failed", error=repr(bug))
        finally:
            with self._lock:
                self._engine = self._change = None
        return _Outcome.FREE

    def _release_at_exit(self) -> None:
        """As `release`, for the end of the process, which waits for it if it can."""
        engine = self._engine
        if engine is None or self._env.host.pid() != self._pid:
            return
        while (change := self._toward_free()) is not None:
            if engine.is_current:
                return
            concurrent.futures.wait([change])
        engine.stop(_STOP_S)

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
        if self._engine is not None:
            self._engine.submit(self.release())


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
            await self._ownership.take()
            if not self._ownership.is_ours:
                await asyncio.sleep(SUCCESSION_RETRY_MS / 1_000)

    async def close(self, error: HeadraceError | None = None) -> None:
        await super().close(error)
        await self._ownership.left(self)

    def _note_lost(self, error: HeadraceError) -> None:
        self._owner_left = isinstance(error, Draining)
        self._events.on_lost(error)

    async def _find_owner(self) -> None:
        if self._owner_left:
            self._owner_left = False
            await asyncio.sleep(SUCCESSION_PAUSE_MS / 1_000)
        try:
            await self._ownership.take()
        except Refused as error:
            # A disk that is full gets room again: nobody is found now, and looked for later.
            _report("take_over_refused", error=str(error))

    def _unresponsive(self) -> OwnerUnresponsive:
        holder = self._ownership.holder()
        return OwnerUnresponsive(
            f"{self._ownership.directory} is owned by {holder.describe()}, which does not answer.",
            hint="Is it stopped? Let it go on (kill -CONT), or end it and another takes over.",
            pid=holder.pid,
        )


_ownerships: weakref.WeakValueDictionary[tuple[int, str], Ownership]
_ownerships = weakref.WeakValueDictionary()
"""By the seam and the directory. One seam is one process, of which several may be simulated
in one interpreter; each of these knows its seam, so that no other can have its number."""
_ownerships_lock = threading.Lock()


def _ownership_of(env: Env, directory: str) -> Ownership:
    with _ownerships_lock:
        found = _ownerships.get((id(env), directory))
        if found is None:
            found = _ownerships[id(env), directory] = Ownership(env, directory)
        return found


def _report(event: str, **fields: Any) -> None:
    """To the logger `headrace.engine` of the host process, whose logging stays its own."""
    level = logging.WARNING if event.endswith(_GRAVE) else logging.INFO
    shown = " ".join(f"{name}={value!r}" for name, value in fields.items())
    logging.getLogger("headrace.engine").log(level, "%s %s", event, shown)
