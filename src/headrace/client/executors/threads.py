"""Sync handlers in threads of the worker process.

Threads start when they are needed and are used again, the last one freed first. A thread
cannot be killed: when its job is stopped, the slot stays taken until the handler returns,
and the job is settled without it.

Must never run a handler on a thread that another one still uses.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
from collections.abc import Callable
from typing import Any

from headrace.model.env import Env

Work = tuple[Callable[[], Any], asyncio.Future[Any]]


class HandlerThreads:
    """All methods belong to the worker's loop."""

    def __init__(self, env: Env) -> None:
        self._env = env
        self._loop = asyncio.get_running_loop()
        self._idle: list[_Thread] = []
        self._left_behind: dict[asyncio.Future[Any], None] = {}
        """What stopped handlers will bring, while somebody waits for them."""
        self._count = 0

    async def run(self, call: Callable[[], Any], on_left_behind: Callable[[], None]) -> Any:
        """What `call` returns or raises, in a copy of this task's context.

        Cancellation: `on_left_behind()` is called at once; then this waits for the thread,
        or for `close`, and raises `CancelledError` whatever it brought.
        """
        thread = self._idle.pop() if self._idle else self._start()
        future: asyncio.Future[Any] = self._loop.create_future()
        context = contextvars.copy_context()
        thread.work.put((lambda: context.run(call), future))
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            on_left_behind()
            self._left_behind[future] = None
            await _outlast(future)
            self._left_behind.pop(future, None)
            raise
        finally:
            if future.done() and not future.cancelled():
                self._idle.append(thread)
        return future.result()

    def close(self) -> None:
        """Idle threads end; one that is in a handler ends with it, or with the process.

        Nobody waits for it any more.
        """
        for future in self._left_behind:
            future.cancel()
        for thread in self._idle:
            thread.work.put(None)
        self._idle.clear()

    def _start(self) -> _Thread:
        self._count += 1
        return _Thread(self._env, f"headrace-handler-{self._count}", self._loop)


class _Thread:
    def __init__(self, env: Env, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self.work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._loop = loop
        env.threads.start(name, self._serve)

    def _serve(self) -> None:
        while (work := self.work.get()) is not None:
            call, future = work
            try:
                outcome: tuple[Any, BaseException | None] = (call(), None)
            except BaseException as error:
                outcome = (None, error)
            try:
                self._loop.call_soon_threadsafe(_deliver, future, *outcome)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return
            del work, call, future, outcome


def _deliver(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, StopIteration):
        # A future refuses it, since it would end the generator that awaits.
        future.set_exception(RuntimeError(f"the handler raised StopIteration: {error}"))
    else:
        future.set_exception(error)


async def _outlast(future: asyncio.Future[Any]) -> None:
    """Until it is done, whatever else is cancelled meanwhile."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue
    if not future.cancelled():
        future.exception()
