"""A worker that dies at one chosen point of the life of a job, and nowhere else.

    MORTAL='{"target": "...", "journal": "...", ...}' python -m tests.e2e.crash.mortal

The points are places in the code, not moments: its link, its handlers. Where something must
have left before, the death is put behind the pass of the loop in which it leaves. With no point
it lives, and runs what others left. Prints `ready`; SIGTERM ends it in good order.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import msgspec

from headrace import App, JobContext, Retry, Worker, WorkerOptions
from headrace.client.target import AnyLink, LinkEvents, Target
from headrace.model.commands import Ack, Command, Started
from headrace.model.pushes import JobsPushed, Push
from tests.e2e.crash.journal import Journal
from tests.e2e.crash.watched import WatchedTarget

PUSH_UNREAD = "push-unread"
"""The job is leased to it, and its bytes wait in the socket: the test stops it before."""
PUSH_READ = "push-read"
RESERVED = "reserved"
"""The job is in a slot's queue; that it starts is about to be said."""
ANNOUNCED = "announced"
"""It was said; the handler has not begun."""
IN_ASYNC = "in-async"
IN_THREAD = "in-thread"
IN_PROCESS = "in-process"
RETURNED = "returned"
"""The handler has; the ack is about to leave."""
ACK_SENT = "ack-sent"
POINTS = (
    *(PUSH_UNREAD, PUSH_READ, RESERVED, ANNOUNCED, IN_ASYNC, IN_THREAD, IN_PROCESS),
    *(RETURNED, ACK_SENT),
)
HANDLER_OF = {IN_THREAD: "in_thread", IN_PROCESS: "in_process"}
"""All others are of a job that runs on the loop."""
QUICKLY = Retry(attempts=5, base="10ms", crashes=5)


class Mortal(msgspec.Struct, kw_only=True):
    """What it is told."""

    target: str
    journal: str
    queues: tuple[str, ...]
    point: str
    lease_ms: int


class MortalTarget:
    """Links that die of what goes over them."""

    def __init__(self, target: Target, point: str) -> None:
        self._target = target
        self._point = point

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def make_link(self, events: LinkEvents) -> AnyLink:
        def on_push(push: Push) -> None:
            if self._point == PUSH_READ and isinstance(push, JobsPushed):
                die()
            events.on_push(push)

        changed = msgspec.structs.replace(events, on_push=on_push)
        return _MortalLink(self._target.make_link(changed), self._point)


class _MortalLink:
    def __init__(self, link: AnyLink, point: str) -> None:
        self._link = link
        self._point = point

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    def send(self, command: Command) -> bool:
        if isinstance(command, Started):
            return self._around(RESERVED, ANNOUNCED, lambda: self._link.send(command))
        return self._link.send(command)

    def call(self, command: Command) -> asyncio.Future[Any]:
        if isinstance(command, Ack):
            return self._around(RETURNED, ACK_SENT, lambda: self._link.call(command))
        return self._link.call(command)

    def _around(self, before: str, behind: str, call: Callable[[], Any]) -> Any:
        if self._point == before:
            die()
        answer = call()
        if self._point == behind:  # what was called writes in this pass of the loop, before us
            asyncio.get_running_loop().call_soon(die)
        return answer


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()  # nothing more happens in this thread


def application(told: Mortal) -> App:
    journal = Journal(told.journal)
    app = App(told.target)
    mortal = MortalTarget(app.connections.target, told.point)
    app.connections.target = WatchedTarget(mortal, journal)

    def begin(ctx: JobContext) -> None:
        journal.note("started", ctx.id, ctx.token, ctx.attempt)

    @app.job(retry=QUICKLY)
    async def in_loop(ctx: JobContext) -> None:
        begin(ctx)
        if told.point == IN_ASYNC:
            die()

    @app.job(retry=QUICKLY)
    def in_thread(ctx: JobContext) -> None:
        begin(ctx)
        if told.point == IN_THREAD:
            die()

    @app.job(retry=QUICKLY, executor="process")
    def in_process(ctx: JobContext) -> None:
        begin(ctx)
        if told.point == IN_PROCESS:
            os.kill(os.getppid(), signal.SIGKILL)
            threading.Event().wait()  # ends with its worker

    return app


TOLD = msgspec.json.decode(os.environ["MORTAL"], type=Mortal) if "MORTAL" in os.environ else None
app = application(TOLD) if TOLD else None


async def main(told: Mortal, app: App) -> None:
    options = WorkerOptions(queues=told.queues, lease_ms=told.lease_ms, processes=1)
    worker = Worker(app, options, target="tests.e2e.crash.mortal:app")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.run())
        await worker.started()
        print("ready", flush=True)
    await app.close()


if __name__ == "__main__" and TOLD and app:
    asyncio.run(main(TOLD, app))
