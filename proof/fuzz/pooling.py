"""Calls spread over processes, all of which end when the time is over or somebody asks.

A process looks at one clock and one flag between two cases, so a budget holds however late
it began, and a signal to the parent reaches them all.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.synchronize import Event
from typing import Any

import msgspec

from proof.result import Result
from proof.stopping import Stopping

LOOK_S = 0.3


class Call(msgspec.Struct, frozen=True):
    """`function(*arguments, is_over)` in a process of its own."""

    function: Callable[..., Result]
    arguments: tuple[Any, ...]


_stop: Event | None = None


def spread(calls: Sequence[Call], jobs: int, stopping: Stopping) -> Iterator[Result]:
    """What they return, as they end; those that have not begun when it is over never do."""
    context = multiprocessing.get_context("spawn")
    stop, until_s = context.Event(), time.monotonic() + stopping.left_s
    with concurrent.futures.ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_begin, initargs=(stop,)
    ) as executor:
        left = {executor.submit(_run, call, until_s) for call in calls}
        while left:
            done, left = concurrent.futures.wait(left, LOOK_S, concurrent.futures.FIRST_COMPLETED)
            if stopping.is_due and not stop.is_set():
                stop.set()
                left = {future for future in left if not future.cancel()}
            for future in done:
                yield future.result()


def _begin(stop: Event) -> None:
    """Ctrl-C reaches the whole group; the parent says what follows from it."""
    global _stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _stop = stop


def _run(call: Call, until_s: float) -> Result:
    def is_over() -> bool:
        return time.monotonic() >= until_s or (_stop is not None and _stop.is_set())

    return call.function(*call.arguments, is_over)
