"""The jobs that one client watches, over all connections that its link has.

A server forgets what a connection watched when the connection ends. So whatever is still
open is watched anew on the next one; what ended in between is told at once there, since
it is final. Being told twice is harmless: the first time closes the watch.

Must never leave a watch silent: each hears once, of the end of its job or why nobody will
ever say. All of it on the link's loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from headrace.client.enqueueing import Carrier, problem_error
from headrace.client.target import LinkEvents
from headrace.model.commands import Watch
from headrace.model.errors import CannotConnect, HeadraceError, OutcomeUnknown, Unavailable
from headrace.model.handshake import Welcome
from headrace.model.limits import BULK_JOBS, REFUSED_RETRY_MS
from headrace.model.pushes import FinishedPushed, Push
from headrace.model.replies import JobView, Settled

OnFinished = Callable[[bytes, JobView | HeadraceError], None]
"""Told the id of a job, and its end or why nothing will be heard of it."""


class Watching:
    """Made before its link, which needs `events`; the link is attached once it has started."""

    def __init__(self) -> None:
        self.events = LinkEvents(
            on_push=self._pushed, on_connected=self._connected, on_failed=self.fail
        )
        self._open: dict[bytes, list[OnFinished]] = {}
        self._link: Carrier | None = None
        self._again: asyncio.Task[None] | None = None

    def attach(self, link: Carrier) -> None:
        self._link = link

    async def watch(self, job_ids: Iterable[bytes], on_finished: OnFinished) -> None:
        """The server has been asked to tell of all these; see `Client.watch`."""
        wanted = list(dict.fromkeys(job_ids))
        for job_id in wanted:
            self._open.setdefault(job_id, []).append(on_finished)
        try:
            for chunk in _chunks(wanted):
                await self._ask(chunk)
        except BaseException:
            self.forget(wanted, on_finished)
            raise

    def forget(self, job_ids: Iterable[bytes], on_finished: OnFinished) -> None:
        """It hears nothing of these any more."""
        for job_id in job_ids:
            waiting = self._open.get(job_id, [])
            if on_finished in waiting:
                waiting.remove(on_finished)
            if not waiting:
                self._open.pop(job_id, None)

    def fail(self, error: HeadraceError) -> None:
        """There will be no connection any more: each watch has heard why."""
        if self._again is not None:
            self._again.cancel()
        self._tell_all(list(self._open), error)

    def close(self) -> None:
        self.fail(CannotConnect("The client is closed."))

    # --- inside

    def _pushed(self, push: Push) -> None:
        if isinstance(push, FinishedPushed):
            for view in push.jobs:
                self._tell(view.job_id, view)

    def _connected(self, welcome: Welcome) -> None:
        if self._again is not None:
            self._again.cancel()
        if self._open:
            again = self._watch_again(list(self._open))
            self._again = asyncio.get_running_loop().create_task(again, name="headrace-watch")

    async def _watch_again(self, job_ids: list[bytes]) -> None:
        """The server of this connection knows what is still open, however busy it is."""
        for chunk in _chunks(job_ids):
            while left := [job_id for job_id in chunk if job_id in self._open]:
                try:
                    await self._ask(left)
                    break
                except (Unavailable, OutcomeUnknown) as error:
                    await asyncio.sleep(max(error.retry_after_ms, REFUSED_RETRY_MS) / 1_000)
                except HeadraceError as error:
                    self._tell_all(left, error)

    async def _ask(self, job_ids: list[bytes]) -> None:
        assert self._link is not None
        settled: Settled = await self._link.call(Watch(job_ids))
        for problem in settled.problems or ():
            self._tell(job_ids[problem.position], problem_error(problem))

    def _tell(self, job_id: bytes, outcome: JobView | HeadraceError) -> None:
        for on_finished in self._open.pop(job_id, ()):
            on_finished(job_id, outcome)

    def _tell_all(self, job_ids: list[bytes], error: HeadraceError) -> None:
        for job_id in job_ids:
            self._tell(job_id, error)


def _chunks(job_ids: Iterable[bytes]) -> Iterator[list[bytes]]:
    """As many as a call of a bulk has: a turn of the server stays short."""
    left = iter(job_ids)
    while chunk := list(islice(left, BULK_JOBS)):
        yield chunk
