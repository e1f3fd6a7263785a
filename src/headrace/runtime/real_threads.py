"""Threads of this process, and the hand-off that keeps a busy loop from starving one.

Theory. CPython gives a waiting thread the interpreter lock only after the holder has run
for 5 ms, or when the holder blocks. A loop that never idles therefore delays each commit
by several switch intervals, although the disk needs 0.2 ms. Two rules cure it:

- `submit` waits until the thread has *taken* the call: the loop blocks on a lock, so the
  thread runs at once and gives the interpreter back when it enters the system call;
- `give_way`, called at the end of each turn, blocks for at most `GIVE_WAY_US`: a thread
  that came back from its system call gets the interpreter within one turn. Not in the
  turn that began the call: the disk cannot be done, and the loop would come back just in
  time to take the interpreter from the thread between its two system calls.

Argument for "done exactly once": the thread releases `_ended` once per call, and whoever
acquires it (the scheduled callback, `give_way` or `close`, all on the loop's thread)
delivers. A callback that comes too late finds it locked and does nothing, also when the
next call is already under way.

Must never run a call on the loop's thread, and never hold two calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from headrace.model.errors import invariant
from headrace.model.limits import GIVE_WAY_US
from headrace.runtime.real_loops import RealLoopThread

T = TypeVar("T")
Done = Callable[[Any, BaseException | None], None]


class RealThreads:
    def io_thread(self, name: str, loop: asyncio.AbstractEventLoop) -> RealIoThread:
        return RealIoThread(name, loop)

    def loop_thread(self, name: str) -> RealLoopThread:
        return RealLoopThread(name)

    def start(self, name: str, target: Callable[[], None]) -> Callable[[float], bool]:
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()

        def join(timeout_s: float) -> bool:
            thread.join(timeout_s)
            return not thread.is_alive()

        return join


class RealIoThread:
    """One thread and one slot. All methods belong to the loop's thread."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._call: Callable[[], object] | None = None
        self._done: Done | None = None
        # Invariant: set by the thread before it releases `_ended`, read after acquiring it.
        self._outcome: tuple[object, BaseException | None] = (None, None)
        self._closed = False
        self._just_begun = False
        """By the turn under way, not by the delivery of the call before."""
        self._offered = _locked()
        self._taken = _locked()
        self._ended = _locked()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(
        self, call: Callable[[], T], done: Callable[[T | None, BaseException | None], None]
    ) -> None:
        invariant(not self._closed, "a closed I/O thread gets no call")
        invariant(self._done is None, "an I/O thread has one call at a time")
        self._done = done
        self._offer(call)
        self._just_begun = True

    def give_way(self) -> None:
        if self._just_begun:
            self._just_begun = False
        elif self._done is not None and self._ended.acquire(timeout=GIVE_WAY_US / 1e6):
            self._deliver()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._done is not None:
            self._ended.acquire()
            self._deliver()
        self._offer(None)
        self._thread.join()

    def _offer(self, call: Callable[[], object] | None) -> None:
        self._call = call
        self._offered.release()
        self._taken.acquire()

    def _work(self) -> None:
        while (call := self._take()) is not None:
            try:
                self._outcome = (call(), None)
            except BaseException as error:
                self._outcome = (None, error)
            del call
            self._ended.release()
            # Locked again means that the loop already has the outcome.
            if not self._ended.locked():
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self._deliver_if_ended)

    def _take(self) -> Callable[[], object] | None:
        self._offered.acquire()
        call, self._call = self._call, None
        self._taken.release()
        return call

    def _deliver_if_ended(self) -> None:
        if self._ended.acquire(blocking=False):
            self._deliver()

    def _deliver(self) -> None:
        """The caller holds `_ended`. `done` may submit the next call."""
        done, self._done = self._done, None
        (result, error), self._outcome = self._outcome, (None, None)
        assert done is not None
        done(result, error)
        self._just_begun = False


def _locked() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock
