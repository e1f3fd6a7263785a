"""Event loops of this machine, and threads that run one.

Must never leave a future of `submit` undecided: whoever waits for it, perhaps without a
time limit, is told that it was cancelled when the loop ends first.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class RealLoopThread:
    """An event loop in a daemon thread; the contract is in `headrace.model.env.LoopThread`."""

    def __init__(self, name: str) -> None:
        self._loop = new_event_loop()
        self._stopped = False
        # Invariant: what was given to the loop under this lock before `_stopped` was set
        # stands before its end in the loop's queue.
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    @property
    def is_current(self) -> bool:
        return threading.get_ident() == self._thread.ident

    def call(self, callback: Callable[[], object]) -> None:
        with self._lock:
            if not self._stopped:
                self._loop.call_soon_threadsafe(callback)

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        with self._lock:
            if not self._stopped:
                return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        coroutine.close()
        refused: Future[T] = Future()
        refused.cancel()
        refused.set_running_or_notify_cancel()
        return refused

    def stop(self, timeout_s: float = 0.0) -> None:
        with self._lock:
            if not self._stopped:
                self._stopped = True
                self._loop.call_soon_threadsafe(self._loop.stop)
        if timeout_s and not self.is_current:
            self._thread.join(timeout_s)

    def _serve(self) -> None:
        # The runner cancels what is left when the loop has been stopped, and closes it.
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.get_loop().run_forever()
            finally:
                with self._lock:
                    self._stopped = True


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
