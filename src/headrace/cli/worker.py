"""`headrace worker MODULE:APP`: runs the jobs of an application until it is told to stop.

SIGTERM or Ctrl-C: nothing new is taken, what runs may finish within `worker.drain_ms`; a
second one ends it now. Jobs not finished go back to their queues either way.
"""

from __future__ import annotations

import asyncio
import os
import traceback

from headrace.cli.application import noun, run
from headrace.cli.config import DEFAULT, Loaded
from headrace.cli.exits import FAILED, INTERRUPTED, OK, Ended, UsageFault, say
from headrace.cli.logging import open_report
from headrace.cli.options import REMOTE, Remote
from headrace.cli.output import print_line
from headrace.cli.signals import on_stop_signal
from headrace.cli.target import token_of
from headrace.client.app import App
from headrace.client.connections import Connections
from headrace.client.discovery import load_app
from headrace.client.errors import NotFound
from headrace.client.target import TOKEN_VARIABLE, URL_VARIABLE, target_of
from headrace.client.worker import Worker, WorkerOptions

app = noun("worker")


@app.default
def worker(
    application: str,
    /,
    *,
    queue: list[str] | None = None,
    strict: bool = False,
    concurrency: int | None = None,
    prefetch_max: int | None = None,
    processes: int = 0,
    lease: str | None = None,
    drain: str | None = None,
    name: str = "",
    build: str = "",
    reload: bool = False,
    options: Remote = REMOTE,
) -> int:
    """Run the jobs of an application until told to stop.

    Args:
        application: MODULE:APP, as jobs:app; looked for in the working directory first.
        queue: Serve this queue; may be given several times. Otherwise every queue that the
            application names.
        strict: Serve the queues strictly in the order given, not in rotation.
        concurrency: Jobs that run at one time.
        prefetch_max: Most jobs held ready beyond those that run.
        processes: Most child processes for jobs of executor="process"; 0: one a processor.
        lease: The jobs of a worker that gives no sign of life for this long go to others.
        drain: Grace at a stop for jobs to finish, as 30s.
        name: Shown beside host and process; the host's name when not given.
        build: Version of the application, shown with the session.
        reload: Start again whenever a Python file below the working directory changes; for
            development.
    """
    flags = {
        "worker__concurrency": concurrency,
        "worker__prefetch_max": prefetch_max,
        "worker__lease_ms": lease,
        "worker__drain_ms": drain,
        "client__url": options.url,
        "client__token_file": options.token_file,
    }
    loaded = options.settings(**flags)
    if reload:
        from headrace.cli.reload import run_reloading

        return run_reloading()
    settings = loaded.settings.worker
    worker_options = WorkerOptions(
        concurrency=settings.concurrency,
        queues=tuple(queue or ()),
        strict=strict,
        prefetch_max=settings.prefetch_max,
        processes=processes,
        lease_ms=settings.lease_ms,
        drain_ms=settings.drain_ms,
        name=name,
        build=build,
    )
    found = _application(application, loaded, url=options.url)
    return run(_Working(found, worker_options, application, loaded).until_stopped())


def _application(named: str, loaded: Loaded, *, url: str | None) -> App:
    """The application, connected to where flag, environment and file say.

    A URL in its own code stands, unless the flag says otherwise.
    """
    token = token_of(loaded)
    if loaded.sources["client.url"] != DEFAULT:
        os.environ.setdefault(URL_VARIABLE, loaded.settings.client.url)
    if token:
        os.environ.setdefault(TOKEN_VARIABLE, token)
    try:
        found = load_app(named)
    except NotFound as error:
        raise UsageFault(error.message, hint=error.hint) from error
    except Exception as error:
        # Its own fault, in its own words: whoever wrote it needs the place.
        traceback.print_exception(error)
        say(f"{named} could not be imported: {type(error).__name__}: {error}")
        raise Ended(FAILED) from error
    if url is not None:
        found.connections = Connections(found.env, target_of(found.env, url, token))
    return found


class _Working:
    def __init__(self, app: App, options: WorkerOptions, named: str, loaded: Loaded) -> None:
        self._app = app
        report = open_report(loaded.settings.logging)
        self._options = options
        self._named = named
        self._report = report
        self._stops_asked = 0

    async def until_stopped(self) -> int:
        """The exit code. Raises: what trying again cannot cure."""
        self._worker = Worker(self._app, self._options, target=self._named, report=self._report)
        loop = asyncio.get_running_loop()
        on_stop_signal(loop, self._on_signal)
        greeting = loop.create_task(self._greet())
        try:
            await self._worker.run()
        finally:
            greeting.cancel()
        return INTERRUPTED if self._stops_asked > 1 else OK

    async def _greet(self) -> None:
        await self._worker.started()
        kinds = ", ".join(sorted(self._app.job_types))
        print_line(f"worker for {kinds} at {self._app.url}")
        print_line("ready")

    def _on_signal(self) -> None:
        self._stops_asked += 1
        self._worker.stop()
