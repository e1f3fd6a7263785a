"""The clients of one application: one a loop, and a loop of its own for code without one.

Why one a loop: an asyncio connection belongs to the loop that made it, and callers must
not pay for a hop to another thread. A client whose loop has been closed is forgotten.

After a fork the child must neither use nor close what it inherited: everything is put
aside, unclosed, and made anew at first use.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from headrace.client.client import Client
from headrace.client.target import AnyLink, Target
from headrace.client.watching import Watching
from headrace.model.env import Env
from headrace.model.errors import BadRequest

T = TypeVar("T")

_abandoned: list[object] = []
"""What a forked child inherited. Kept for ever: collecting it would close descriptors by
number, and the numbers may be somebody else's by now."""


class Connections:
    """May be used from any loop and any thread."""

    def __init__(self, env: Env, target: Target) -> None:
        self.target = target
        self._env = env
        self._clients: dict[int, _Opening] = {}
        self._background: BackgroundLoop | None = None
        self._lock = threading.Lock()
        _every.add(self)
        _watch_forks(env)

    async def client(self) -> Client:
        """Connected, and the running loop's own.

        Raises: `CannotConnect` and what else `Link.start` raises; the next call tries again.
        """
        loop = asyncio.get_running_loop()
        opening = self._clients.get(id(loop))
        if opening is None or opening.loop is not loop:
            opening = self._open(loop)
        if opening.client is not None and opening.is_usable:
            return opening.client
        return await opening.connected()

    def run_sync(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What `coroutine` returns or raises, run on a loop in a thread of this application."""
        with self._lock:
            if self._background is None:
                self._background = BackgroundLoop(self._env)
            background = self._background
        return background.run(coroutine)

    async def close(self) -> None:
        """The client of this loop is closed."""
        opening = self._clients.pop(id(asyncio.get_running_loop()), None)
        if opening is not None:
            await opening.close()

    def close_background(self) -> None:
        """The thread of `run_sync`, if there is one, has ended with its client."""
        with self._lock:
            background, self._background = self._background, None
        if background is not None:
            background.run(self.close())
            background.stop()

    def forget_after_fork(self) -> None:
        _abandoned.append((self._clients, self._background, self._lock))
        self._clients, self._background = {}, None
        self._lock = threading.Lock()
        self.target.forget_after_fork()

    def _open(self, loop: asyncio.AbstractEventLoop) -> _Opening:
        for key, old in list(self._clients.items()):
            if old.loop.is_closed():
                self._clients.pop(key, None)
        opening = _Opening(loop, self._env, self.target)
        self._clients[id(loop)] = opening
        return opening


class _Opening:
    """The client of one loop, from the first call on."""

    def __init__(self, loop: asyncio.AbstractEventLoop, env: Env, target: Target) -> None:
        self.loop = loop
        self.client: Client | None = None
        self._env = env
        self._target = target
        self._link: AnyLink | None = None
        self._one_at_a_time = asyncio.Lock()

    @property
    def is_usable(self) -> bool:
        return self._link is not None and self._link.failure is None

    async def connected(self) -> Client:
        async with self._one_at_a_time:
            if self.client is None or not self.is_usable:
                watching = Watching()
                link = self._target.make_link(watching.events)
                await link.start()
                self._link, self.client = link, Client(link, self._env, watching)
            return self.client

    async def close(self) -> None:
        async with self._one_at_a_time:
            client, self.client = self.client, None
            if client is not None:
                await client.close()


class BackgroundLoop:
    """An event loop in a daemon thread of its own."""

    def __init__(self, env: Env, name: str = "headrace-sync") -> None:
        self._started = threading.Event()
        self._loop = new_event_loop()
        self._join = env.threads.start(name, self._serve)
        self._started.wait()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Its result; on interruption (Ctrl-C) the coroutine is cancelled.

        Raises: `BadRequest` on this very loop, which would wait for itself.
        """
        if _running_loop() is self._loop:
            coroutine.close()
            raise BadRequest(
                "A sync call was made from code that a sync call runs, and would never end.",
                hint="Await the async form here, such as `enqueue` instead of `enqueue_sync`.",
            )
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def call(self, call: Callable[[], None]) -> None:
        """`call` runs on the loop soon."""
        self._loop.call_soon_threadsafe(call)

    def stop(self, timeout_s: float = 5.0) -> None:
        """The thread has ended, unless something on it blocks for longer."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._join(timeout_s)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.call_soon(self._started.set)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


_every: weakref.WeakSet[Connections] = weakref.WeakSet()
_forks_are_watched = False


def _watch_forks(env: Env) -> None:
    global _forks_are_watched
    if not _forks_are_watched:
        _forks_are_watched = True
        env.processes.after_fork_in_child(_forget_all)


def _forget_all() -> None:
    for connections in list(_every):
        connections.forget_after_fork()
