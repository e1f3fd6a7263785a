"""One process of a crash test: it enqueues, works, or both, and journals what it sees.

    python -m tests.e2e.crash.member '{"target": "...", "journal": "...", ...}'

Prints `ready`; SIGTERM ends it in good order.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec

from headrace import App, HeadraceError, JobContext, OutcomeUnknown, Retry, Worker, WorkerOptions
from headrace.client.job_ids import JobIdMaker
from headrace.client.job_type import Draft
from headrace.model.ids import id_from_text, id_to_text, slot_of_queue
from headrace.model.job import State
from headrace.runtime.env import real_env
from tests.e2e.crash.journal import Journal
from tests.e2e.crash.watched import WatchedTarget

Enqueueing = Callable[[Draft[Any]], Awaitable[object]]
QUICKLY = Retry(attempts=8, base="10ms", crashes=8)
CONCURRENCY = 4
"""Little, so that workers also die with jobs that they have not started."""
PAUSE_S = 0.005
"""Of a producer between two calls: the load leaves room for what is killed to come back."""


class Part(msgspec.Struct, kw_only=True):
    """What a member is told."""

    target: str
    journal: str
    seed: int
    works: bool = False
    produces: bool = False
    producers: int = 8
    """Who enqueue at a time."""
    lease_ms: int = 1_500
    padding_bytes: int = 0
    """Of each payload, so that the log grows."""


def application(part: Part, journal: Journal) -> App:
    app = App(part.target)
    app.connections.target = WatchedTarget(app.connections.target, journal)

    @contextlib.contextmanager
    def noted(ctx: JobContext) -> Iterator[None]:
        """The handler runs inside; its end is told before the worker can tell the server."""
        journal.witness.began(id_from_text(ctx.id), ctx.token, ctx.attempt)
        journal.note("started", ctx.id, ctx.token, ctx.attempt)
        try:
            yield
        finally:
            journal.witness.ended(id_from_text(ctx.id), ctx.token)

    @app.job(queue="quick", retry=QUICKLY)
    async def quick(ctx: JobContext, padding: str) -> int:
        with noted(ctx):
            return ctx.attempt

    @app.job(queue="slow", retry=QUICKLY)
    async def slow(ctx: JobContext, pause_ms: int, padding: str) -> None:
        with noted(ctx):
            await asyncio.sleep(pause_ms / 1_000)

    @app.job(queue="slow", retry=QUICKLY)
    def threaded(ctx: JobContext, padding: str) -> None:
        with noted(ctx):
            threading.Event().wait(0.01)

    @app.job(queue="quick", retry=QUICKLY)
    async def flaky(ctx: JobContext, failures: int, padding: str) -> None:
        with noted(ctx):
            if ctx.attempt <= failures:
                raise ValueError(f"attempt {ctx.attempt} of {failures + 1}")

    @app.job(queue="quick", retry=Retry(attempts=2, base="10ms", crashes=2))
    async def doomed(ctx: JobContext, padding: str) -> None:
        with noted(ctx):
            raise LookupError("as always")

    return app


class Producing:
    """Enqueues without end, and journals every call before and after it."""

    def __init__(self, app: App, part: Part, journal: Journal) -> None:
        self._app = app
        self._journal = journal
        self._random = random.Random(part.seed)
        self._ids = JobIdMaker(real_env())
        self._padding = "x" * part.padding_bytes
        self._producers = part.producers
        self._key_no = 0
        self._key_prefix = f"{part.seed}"
        self.ending = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._producers):
                tasks.create_task(self._one_after_another())

    async def _one_after_another(self) -> None:
        acts = (self._single, self._bulk, self._keyed, self._cancelled)
        while not self.ending.is_set():
            [act] = self._random.choices(acts, (12, 1, 1, 1))
            await act()
            await asyncio.sleep(PAUSE_S)

    async def _single(self) -> None:
        await self._noting([self._draft()], self._app.submit)

    async def _bulk(self) -> None:
        drafts = [self._draft() for _ in range(self._random.randint(2, 12))]
        await self._noting(drafts, lambda _: self._app.enqueue_many(drafts, atomic=True))

    async def _keyed(self) -> None:
        """Two calls with one key: one job answers for both."""
        self._key_no += 1
        key = f"{self._key_prefix}:{self._key_no}"
        keyed = self._app.job_types["quick"].options(key=key)
        for _ in range(2):
            draft = self._named(keyed.job(self._padding))
            self._journal.note("asked", id_to_text(draft.new_job.job_id))
            try:
                job = await self._app.submit(draft)
            except HeadraceError:
                continue
            self._journal.note("keyed", key, job.id)

    async def _cancelled(self) -> None:
        """A job that waits for long is cancelled before it can run."""
        draft = self._named(self._app.job_types["quick"].options(delay="1h").job(self._padding))
        if not await self._noting([draft], self._app.submit):
            return
        client = await self._app.client()
        try:
            changed = await client.cancel(draft.new_job.job_id)
        except HeadraceError:
            return
        if changed.state == State.CANCELLED:
            self._journal.note("cancelled", id_to_text(draft.new_job.job_id))

    async def _noting(self, drafts: list[Draft[Any]], call: Enqueueing) -> bool:
        ids = [id_to_text(draft.new_job.job_id) for draft in drafts]
        for job_id in ids:
            self._journal.note("asked", job_id)
        outcome: tuple[str, ...] = ("taken",)
        try:
            await call(drafts[0])
        except OutcomeUnknown:
            outcome = ("unknown",)
        except HeadraceError as error:
            outcome = ("refused", error.code)
        for job_id in ids:
            self._journal.note(outcome[0], job_id, *outcome[1:])
        return outcome == ("taken",)

    def _draft(self) -> Draft[Any]:
        job_types, padding = self._app.job_types, self._padding
        makers: tuple[Callable[[], Draft[Any]], ...] = (
            lambda: job_types["quick"].job(padding),
            lambda: job_types["slow"].job(self._random.randint(5, 250), padding),
            lambda: job_types["threaded"].job(padding),
            lambda: job_types["flaky"].job(self._random.randint(1, 2), padding),
            lambda: job_types["doomed"].job(padding),
        )
        [make] = self._random.choices(makers, (8, 3, 1, 2, 1))
        return self._named(make())

    def _named(self, draft: Draft[Any]) -> Draft[Any]:
        draft.new_job.job_id = self._ids.make(slot_of_queue(draft.placement.spec.queue))
        return draft


async def main(part: Part) -> None:
    journal = Journal(part.journal)
    app = application(part, journal)
    worker = Worker(app, WorkerOptions(concurrency=CONCURRENCY, lease_ms=part.lease_ms))
    producing = Producing(app, part, journal)

    def end() -> None:
        producing.ending.set()
        worker.stop()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
    async with asyncio.TaskGroup() as tasks:
        if part.works:
            tasks.create_task(worker.run())
            await worker.started()
        if part.produces:
            await app.client()
            tasks.create_task(producing.run())
        print("ready", flush=True)
    await app.close()


if __name__ == "__main__":
    asyncio.run(main(msgspec.json.decode(sys.argv[1], type=Part)))
