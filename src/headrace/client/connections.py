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
from collections.abc import Coroutine
from typing import Any, TypeVar

from headrace.client.client import Client
from headrace.client.target import AnyLink, Target
from headrace.client.watching import Watching
from headrace.model.env import Env, LoopThread
from headrace.model.errors import BadRequest

T = TypeVar("T")

_STOP_S = 5.0
"""Longest wait for a thread to end, which something on it may block."""
_abandoned: list[object] = []
"""What a forked child inherited. Kept for ever: collecting it would close descriptors by
number, and the numbers may be somebody else's by now."""


class Connections:
    """May be used from any loop and any thread."""

    def __init__(self, env: Env, target: Target) -> None:
        self.target = target
        self._env = env
        self._clients: dict[int, _Opening] = {}
        self._background: LoopThread | None = None
        self._lock = threading.Lock()
        _forget_after_fork(env, self)

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
                self._background = self._env.threads.loop_thread("headrace-sync")
            background = self._background
        return _wait_for(background, coroutine)

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
            _wait_for(background, self.close())
            background.stop(_STOP_S)

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


def _wait_for(thread: LoopThread, coroutine: Coroutine[Any, Any, T]) -> T:
    """Its result; on interruption (Ctrl-C) the coroutine is cancelled. Blocks.

    Raises: `BadRequest` on this very thread, which would wait for itself.
    """
    if thread.is_current:
        coroutine.close()
        raise BadRequest(
            "A sync call was made from code that a sync call runs, and would never end.",
            hint="Await the async form here, such as `enqueue` instead of `enqueue_sync`.",
        )
    future = thread.submit(coroutine)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _forget_after_fork(env: Env, connections: Connections) -> None:
    """In every child from here on, for as long as these connections exist."""
    found = weakref.ref(connections)

    def forget() -> None:
        inherited = found()
        if inherited is not None:
            inherited.forget_after_fork()

    env.processes.after_fork_in_child(forget)
