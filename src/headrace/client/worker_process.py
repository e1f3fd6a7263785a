"""A process that is a worker and nothing else: `headrace worker jobs:app`.

SIGTERM or Ctrl-C: nothing new is taken, what runs may finish within its drain time, what
has not started goes back. A second one stops at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator

from headrace.client.app import App
from headrace.client.discovery import load_app
from headrace.client.reports import WorkerReport, log_report
from headrace.client.worker import DEFAULT_OPTIONS, Worker, WorkerOptions


async def run_worker(
    target: str,
    options: WorkerOptions = DEFAULT_OPTIONS,
    *,
    url: str = "",
    token: str = "",
    report: WorkerReport = log_report,
) -> bool:
    """The worker of the application `module:app` has run until a signal; True: a second one.

    `url` and `token` win over what the application names.
    Raises: `NotFound`; `BadRequest` without jobs; what connecting again cannot cure.
    """
    app = load_app(target)
    if url:
        app.connect_to(url, token or None)
    return await run_until_signal(app, Worker(app, options, target=target, report=report))


async def run_until_signal(app: App, worker: Worker) -> bool:
    """As `run_worker`, of a worker that is made already."""
    stops = _Stops(worker)
    with _signals_to(stops):
        try:
            await worker.run()
        finally:
            await app.close()
    return stops.count > 1


class _Stops:
    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.count = 0

    def __call__(self) -> None:
        self.count += 1
        self._worker.stop()


@contextlib.contextmanager
def _signals_to(stops: _Stops) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    try:
        for number in numbers:
            loop.add_signal_handler(number, stops)
    except NotImplementedError:  # Windows: Ctrl-C raises KeyboardInterrupt instead
        yield
        return
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
