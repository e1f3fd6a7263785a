"""Who takes part in a life: clients and bare sessions that ask, workers that run handlers.

Each is a process of its own with the real SDK in it. The driver of a life gives an asker
its next act through an inbox, so that everything it does happens inside its process.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from headrace.client.app import App
from headrace.client.context import JobContext
from headrace.client.target import AnyLink, LinkEvents, target_of
from headrace.client.worker import Worker, WorkerOptions
from headrace.codec.messages import UNANSWERED
from headrace.model import commands as c
from headrace.model.env import Env
from headrace.model.errors import HeadraceError
from headrace.model.ids import id_from_text
from headrace.model.pushes import JobsPushed, Push
from headrace.model.replies import Claimed, Enqueued, PushedGroup, Reply
from headrace.sim.conditions import KINDS, LEASE_MS, QUEUES
from headrace.sim.history import HandlerBegan, HandlerEnded
from headrace.sim.observe import ObservedTarget
from headrace.sim.seeds import derived
from headrace.sim.verbs import Lease

if TYPE_CHECKING:
    from headrace.sim.world import World

CONNECT_RETRY_S = 0.3
CONCURRENCY = 4
DRAIN_MS = 1_000


class Unwell(Exception):
    """What a handler of a simulated job fails with."""


class Asker:
    """A client, or a session made of bare commands. Outlives the deaths of its process."""

    def __init__(self, world: World, name: str, session_id: bytes = b"") -> None:
        self.name = name
        self.session_id = session_id
        self.leases: list[Lease] = []
        self._world = world
        self._link: AnyLink | None = None
        """Once it has been connected."""
        self._leaving: asyncio.Event | None = None
        self._waiting: list[c.Command] = []

    @property
    def ids(self) -> list[bytes]:
        return self._world.ids

    @property
    def asked(self) -> list[c.Enqueue]:
        return self._world.asked

    @property
    def strangers(self) -> list[Lease]:
        others = [asker for asker in self._world.askers if asker is not self]
        return [lease for asker in others for lease in asker.leases]

    def wall_ms(self) -> int:
        return self._world.wall_ms()

    @property
    def connected(self) -> bool:
        return self._link is not None and self._link.connected

    @property
    def failure(self) -> BaseException | None:
        """Why it will never be connected again, as it was told."""
        return self._link.failure if self._link is not None else None

    def main(self, env: Env) -> Coroutine[Any, Any, None]:
        """Its process: connected for as long as it lives.

        What its last process had is gone before anything else runs in this one.
        """
        self._link = self._leaving = None
        return self._live(env)

    async def _live(self, env: Env) -> None:
        target = ObservedTarget(
            target_of(env, self._world.url, None), self.name, self._world.history, env.clock
        )
        link = target.make_link(LinkEvents(on_push=self._on_push))
        while self._link is None:
            try:
                await link.start()
            except HeadraceError:
                await asyncio.sleep(CONNECT_RETRY_S)
            else:
                self._link = link
        waiting, self._waiting = self._waiting, []
        for command in waiting:
            self.act(command)
        self._leaving = asyncio.Event()
        await self._leaving.wait()
        await link.close()

    def leave(self) -> None:
        """In its process: it ends in good order, once it has been connected."""
        if self._leaving is not None:
            self._leaving.set()

    def act(self, command: c.Command) -> None:
        """In its process: the command leaves as soon as there is a connection."""
        if self._link is None:
            self._waiting.append(command)
        elif type(command) in UNANSWERED:
            self._link.send(command)
        else:
            self._link.call(command).add_done_callback(self._answered)

    def keep(self, command: c.Command) -> None:
        """While no process of it lives: the next one asks."""
        self._waiting.append(command)

    def _answered(self, answer: asyncio.Future[Reply]) -> None:
        if answer.cancelled() or answer.exception() is not None:
            return
        reply = answer.result()
        if isinstance(reply, Claimed):
            self._take(reply.groups)
        elif isinstance(reply, Enqueued) and reply.made_ids:
            self._world.know(reply.made_ids)

    def _on_push(self, push: Push) -> None:
        if isinstance(push, JobsPushed):
            self._take(push.groups)

    def _take(self, groups: list[PushedGroup]) -> None:
        self.leases += [(job.job_id, group.token) for group in groups for job in group.jobs]


class HandlerWorker:
    """A worker of the SDK, whose handlers do what their job and attempt decide."""

    def __init__(self, world: World, name: str, *, well: bool = False) -> None:
        """`well`: its handlers all succeed, and it serves every queue."""
        self.name = name
        self._world = world
        self._well = well
        self._worker: Worker | None = None

    def main(self, env: Env) -> Coroutine[Any, Any, None]:
        """Its process. What its last one had is gone before anything else runs in this one."""
        self._worker = None
        return self._live(env)

    async def _live(self, env: Env) -> None:
        app = App(self._world.url, env=env)
        app.connections.target = ObservedTarget(
            app.connections.target, self.name, self._world.history, env.clock
        )
        for kind in KINDS:
            app.job(kind=kind, queue=QUEUES[0])(self._handler(env))
        options = WorkerOptions(
            concurrency=CONCURRENCY,
            queues=QUEUES,
            lease_ms=LEASE_MS,
            drain_ms=DRAIN_MS,
            name=self.name,
        )
        self._worker = Worker(app, options, report=self._report)
        await self._worker.run()

    def leave(self) -> None:
        """In its process: as at SIGTERM."""
        if self._worker is not None:
            self._worker.stop()

    @property
    def connected(self) -> bool:
        """Its session is, as the server sees it."""
        engine = self._world.engine
        sessions = engine.state.sessions.values() if engine is not None else ()
        return any(one.name == self.name and one.connected for one in sessions)

    @property
    def failure(self) -> BaseException | None:
        """Why its process has ended by itself."""
        return self._world.processes[self.name].failure

    def _report(self, event: str, **fields: object) -> None:
        """Workers' words are not judged; their deeds are."""

    def _handler(self, env: Env) -> Callable[..., object]:
        async def handle(ctx: JobContext, n: int) -> int:
            job_id, token = id_from_text(ctx.id), ctx.token
            events = self._world.history.events
            events.append(HandlerBegan(env.clock.mono_ns(), self.name, job_id, token, ctx.attempt))
            try:
                await self._behave(ctx)
            finally:
                events.append(HandlerEnded(env.clock.mono_ns(), self.name, job_id, token))
            return n

        return handle

    async def _behave(self, ctx: JobContext) -> None:
        """A job at one attempt always does the same."""
        if self._well:
            return
        names = ("handler", ctx.id, ctx.attempt, ctx.snooze_count)
        dice = random.Random(derived(self._world.seed, *names))
        chance = dice.random()
        if chance < 0.2:
            await asyncio.sleep(dice.choice((0.01, 0.3, 5.0)))
        elif chance < 0.25:
            await self._outlive_cancellation(dice.choice((0.5, 4.0)))
        elif chance < 0.35:
            ctx.log("line")
            ctx.progress({"at": 1})
        elif chance < 0.4:
            ctx.release(dice.choice((0, 0.3)))
        if dice.random() < 0.15:
            raise Unwell("as drawn")

    async def _outlive_cancellation(self, duration_s: float) -> None:
        """A late finisher: it is told to stop, and goes on for a while."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + duration_s
        while (left_s := until_s - loop.time()) > 0:
            try:
                await asyncio.sleep(left_s)
            except asyncio.CancelledError:
                continue
