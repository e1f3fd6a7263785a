"""Progress of running jobs: the latest wins, and the log sees little of it.

The first report of a job is written at once; what comes within PROGRESS_INTERVAL_MS
after that waits, each report replacing the one before, and the last one is written then.

Must never hold a report of a job that is not running: what is kept is bounded by the
leases that report.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice

from headrace.engine.engine import Engine
from headrace.model.commands import Progress
from headrace.model.limits import PROGRESS_INTERVAL_MS, STEP_JOBS_MAX
from headrace.runtime.timer import Timer
from headrace.runtime.turns import Turns


class ProgressGate:
    """Lets at most two reports a second of each job into the log."""

    def __init__(
        self,
        engine: Engine,
        turns: Turns,
        loop: asyncio.AbstractEventLoop,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._engine = engine
        self._turns = turns
        self._recent: dict[bytes, Progress | None] = {}
        """Jobs that were written in this interval, and what they have reported since."""
        self._timer = Timer(loop, self._write_latest, failed)

    def take(self, report: Progress) -> None:
        """`report` is written now, or is what will be written at the end of the interval."""
        if report.job_id in self._recent:
            self._recent[report.job_id] = report
        elif self._engine.holds(report.job_id, report.token):
            self._recent[report.job_id] = None
            self._turns.run(report)
            self._timer.within(PROGRESS_INTERVAL_MS / 1000)

    def stop(self) -> None:
        self._timer.cancel()
        self._recent.clear()

    def _write_latest(self) -> None:
        recent, self._recent = self._recent, {}
        waiting = [report for report in recent.values() if report is not None]
        for report in islice(waiting, STEP_JOBS_MAX):
            self._turns.run_own(report)
            self._recent[report.job_id] = None
        for report in waiting[STEP_JOBS_MAX:]:
            self._recent[report.job_id] = report
        if self._recent:
            more = len(waiting) > STEP_JOBS_MAX
            self._timer.within(0 if more else PROGRESS_INTERVAL_MS / 1000)
