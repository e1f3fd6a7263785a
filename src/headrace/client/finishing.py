"""Jobs in the order in which they end: behind `App.as_finished`.

Must never poll: the server says when a job has ended, also one that ended while there was
no connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import TYPE_CHECKING, TypeVar

from headrace.client.client import Client
from headrace.client.durations import Duration, duration_ms
from headrace.client.handle import TRY_AGAIN, Job
from headrace.model import limits
from headrace.model.errors import HeadraceError, UnknownJob
from headrace.model.replies import JobView

if TYPE_CHECKING:
    from headrace.client.app import App

R = TypeVar("R")


async def as_finished(
    app: App, jobs: Iterable[Job[R]], timeout: Duration | None
) -> AsyncGenerator[Job[R], None]:
    """See `App.as_finished`."""
    handles: dict[bytes, list[Job[R]]] = {}
    for job in jobs:
        handles.setdefault(job.job_id, []).append(job)
    if not handles:
        return
    loop = asyncio.get_running_loop()
    deadline_s = None if timeout is None else loop.time() + duration_ms(timeout, "timeout") / 1_000
    ended = _Ended()
    client: Client | None = None
    try:
        async with asyncio.timeout_at(deadline_s):
            client = await _watch(app, list(handles), ended)
        while handles:
            async with asyncio.timeout_at(deadline_s):
                job_id = await ended.next_id()
            for job in handles.pop(job_id, ()):  # told twice when watched twice
                yield job
    except TimeoutError as error:
        raise TimeoutError(f"{len(handles)} jobs are not final after {timeout}.") from error
    finally:
        if client is not None:
            client.unwatch(handles, ended.note)


class _Ended:
    """Ids of jobs that have ended, and nothing else of them: results may be large."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[bytes, HeadraceError | None]] = asyncio.Queue()

    def note(self, job_id: bytes, outcome: JobView | HeadraceError) -> None:
        """A job that is not known any more is as final as can be; its handle says so."""
        error = None if isinstance(outcome, JobView | UnknownJob) else outcome
        self._queue.put_nowait((job_id, error))

    async def next_id(self) -> bytes:
        job_id, error = await self._queue.get()
        if error is not None:
            raise error
        return job_id


async def _watch(app: App, job_ids: list[bytes], ended: _Ended) -> Client:
    """The client that watches them; a busy server is asked until it has the time."""
    while True:
        try:
            client = await app.client()
            await client.watch(job_ids, ended.note)
            return client
        except TRY_AGAIN as error:
            await asyncio.sleep(max(error.retry_after_ms, limits.REFUSED_RETRY_MS) / 1_000)
