"""Enqueues a job for each file, waits for all results, then enqueues the report.

Import it once HEADRACE_URL says where the server is: the application reads it then.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from jobs import FileFacts, Report, app, measure_file, report

from headrace import Job, State
from headrace.model.replies import JobView

FAILS_EVERY = 20
"""One job in so many fails once, on purpose."""
REPORT_WITHIN = "60s"
RESULTS_WITHIN = "10m"


@dataclasses.dataclass
class Outcome:
    """What became of one run."""

    enqueue_s: float
    seconds: float
    """From the first enqueue to the last result."""
    views: list[JobView]
    """Every job in the state in which it ended."""
    report: Report | None
    """None when a job did not succeed."""
    left_live: int
    """Jobs of the queue that are not final afterwards."""

    @property
    def succeeded(self) -> int:
        return sum(view.state == State.SUCCEEDED for view in self.views)


OnResult = Callable[[int, JobView], Awaitable[None]]
"""Awaited after each result: how many there are, and the newest."""


async def feed(
    directory: Path, files: list[Path], *, pause_ms: int, on_result: OnResult
) -> Outcome:
    """All results are in, and reported."""
    began_s = time.perf_counter()
    jobs = await app.enqueue_many(
        measure_file.job(
            str(directory),
            str(path.relative_to(directory)),
            fails_once=number % FAILS_EVERY == FAILS_EVERY - 1,
            pause_ms=pause_ms,
        )
        for number, path in enumerate(files)
    )
    enqueued_s = time.perf_counter()
    views = await _results(jobs, on_result)
    ended_s = time.perf_counter()
    summary = await _report(views)
    left = await (await app.client()).get_queue("demo")
    await app.close()
    return Outcome(
        enqueue_s=enqueued_s - began_s,
        seconds=ended_s - began_s,
        views=views,
        report=summary,
        left_live=left.scheduled + left.blocked + left.ready + left.leased,
    )


async def _results(jobs: list[Job[FileFacts]], on_result: OnResult) -> list[JobView]:
    views = []
    for waiting in asyncio.as_completed([job.wait(RESULTS_WITHIN) for job in jobs]):
        views.append(await waiting)
        await on_result(len(views), views[-1])
    return views


async def _report(views: list[JobView]) -> Report | None:
    if any(view.state != State.SUCCEEDED for view in views):
        return None
    facts = [measure_file.decode_result(view.result) for view in views]
    job = await report.enqueue([dataclasses.replace(one, longest_line="") for one in facts])
    return await job.result(REPORT_WITHIN)
