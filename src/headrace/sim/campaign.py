"""Many lives, on as many processors as are given, for at most so long."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial

from headrace.sim.life import live
from headrace.sim.outcome import Outcome, Sums

LIVES_A_TASK = 4


def campaign(
    seeds: range,
    operations: int,
    *,
    jobs: int = 1,
    budget_s: float = 0.0,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
    is_over: Callable[[], bool] = lambda: False,
) -> Sums:
    """Each seed lived once, until `budget_s` (0: no limit) has passed, or Ctrl-C: the sums so far.

    `is_over` is asked after each life.
    """
    sums, began_s = Sums(), time.monotonic()
    try:
        for outcome in _outcomes(seeds, operations, jobs):
            sums.add(outcome)
            sums.seconds = time.monotonic() - began_s
            on_outcome(outcome)
            if is_over() or (budget_s and sums.seconds >= budget_s):
                break
    except KeyboardInterrupt:
        pass
    return sums


def _outcomes(seeds: range, operations: int, jobs: int) -> Iterator[Outcome]:
    """In the order of the seeds."""
    life = partial(live, operations=operations)
    if jobs == 1:
        yield from map(life, seeds)
        return
    # Spawned, not forked: a life must not depend on what the parent has done.
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, initializer=_leave_signals_to_the_parent) as pool:
        yield from pool.imap(life, seeds, chunksize=LIVES_A_TASK)


def _leave_signals_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
