"""Progress and log lines of running jobs, from any thread to the worker's connection.

Latest wins: of the progress of one job, at most two values a second leave, and the last
one always does. Nothing here waits for the server; without a connection it is dropped.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from headrace.client.context import JobFacts
from headrace.client.target import AnyLink
from headrace.model.commands import LogLines, Progress
from headrace.model.env import Env
from headrace.model.limits import JOB_LOG_LINES_MAX, PROGRESS_INTERVAL_MS


class LoopReporter:
    """Made on the worker's loop; callable from every thread of the process."""

    def __init__(self, env: Env, link: AnyLink) -> None:
        self.wall_ms = env.clock.wall_ms
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._link = link
        self._latest: dict[bytes, Progress] = {}
        self._resting: set[bytes] = set()
        """Jobs whose progress has just been sent."""
        self._lines: dict[bytes, LogLines] = {}

    def progress(self, facts: JobFacts, progress: bytes) -> None:
        said = Progress(facts.job_id, facts.token, progress)
        self._on_loop(lambda: self._take_progress(said))

    def log_line(self, facts: JobFacts, line: str) -> None:
        self._on_loop(lambda: self._take_line(facts, line))

    def _on_loop(self, call: Callable[[], None]) -> None:
        if threading.get_ident() == self._thread:
            call()
        else:
            self._loop.call_soon_threadsafe(call)

    def _take_progress(self, said: Progress) -> None:
        self._latest[said.job_id] = said
        if said.job_id not in self._resting:
            self._send_progress(said.job_id)

    def _send_progress(self, job_id: bytes) -> None:
        self._resting.discard(job_id)
        said = self._latest.pop(job_id, None)
        if said is not None:
            self._link.send(said)
            self._resting.add(job_id)
            self._loop.call_later(PROGRESS_INTERVAL_MS / 1_000, self._send_progress, job_id)

    def _take_line(self, facts: JobFacts, line: str) -> None:
        if not self._lines:
            self._loop.call_soon(self._send_lines)
        collected = self._lines.get(facts.job_id)
        if collected is None:
            collected = self._lines[facts.job_id] = LogLines(facts.job_id, facts.token, [])
        collected.lines.append(line)
        del collected.lines[:-JOB_LOG_LINES_MAX]

    def _send_lines(self) -> None:
        lines, self._lines = self._lines, {}
        for collected in lines.values():
            self._link.send(collected)
