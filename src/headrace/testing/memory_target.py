"""A target without a server: the real engine in this process, its log forgotten.

All rules are those of production, since they are the same code: retries, delays, keys,
priorities, credit, cancel. What is missing is what lies around the engine: durability,
leases that expire, connections that break.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from headrace.client.target import AnyLink, LinkEvents
from headrace.engine.engine import Engine
from headrace.model import commands, effects, replies
from headrace.model.commands import Command
from headrace.model.errors import HeadraceError
from headrace.model.handshake import Welcome
from headrace.model.job import FINAL_STATES
from headrace.model.pushes import CancelPushed, FinishedPushed, JobsPushed, Push
from headrace.runtime.watches import Watches
from headrace.testing.virtual_clock import VirtualClock


class MemoryTarget:
    """One engine; every link made here speaks to it. Usable from several threads."""

    url = "memory"
    needs_heartbeat = False

    def __init__(self, clock: VirtualClock, seed: int = 0) -> None:
        self.engine = Engine()
        self._clock = clock
        self._seed = seed
        self._lock = threading.RLock()
        self._links: dict[bytes, MemoryLink] = {}
        self._waiters: dict[bytes, list[tuple[MemoryLink, asyncio.Future[Any]]]] = {}
        self._watches: Watches[MemoryLink] = Watches(
            self.engine, lambda index, link, jobs: link.push(FinishedPushed(jobs))
        )
        self.after_enqueue: Callable[[], Coroutine[Any, Any, object]] | None = None
        """Has run before an enqueue is answered: eager mode."""
        self.engine.start_epoch(1, b"\0" * 8, "memory", clock.now_ms)
        self.engine.take_turn()

    def make_link(self, events: LinkEvents) -> AnyLink:
        return MemoryLink(self, events)

    def forget_after_fork(self) -> None:
        pass

    @property
    def next_due_ms(self) -> int | None:
        """When a delayed job or a retry is due next, by the virtual clock."""
        return self.engine.next_due_ms()

    def run(self, command: Command) -> Any:
        """The reply; what it caused is on its way. Raises: `HeadraceError`."""
        with self._lock:
            self.engine.begin_turn(self._clock.now_ms)
            self._seed += 1
            try:
                reply = self.engine.run(command, self._seed)
            finally:
                self._end_turn()
            return reply

    def maintain(self) -> None:
        """What is due by the virtual clock has happened."""
        while (due_ms := self.next_due_ms) is not None and due_ms <= self._clock.now_ms:
            before = self.engine.last_index
            self.run(commands.Maintain())
            if self.engine.last_index == before:
                return

    def open_session(self, command: commands.OpenSession, link: MemoryLink) -> Any:
        """Jobs of the session are pushed to `link` from here on."""
        with self._lock:
            self._links[command.session_id] = link
            reply = self.run(command)
            self.engine.set_connected(command.session_id, True)
            self._end_turn()
            return reply

    def wait(self, job_id: bytes, link: MemoryLink, future: asyncio.Future[Any]) -> None:
        """`future` gets the job once it is final. Raises: `UnknownJob`."""
        with self._lock:
            view = self.engine.job_view(job_id)
            if view.state in FINAL_STATES:
                future.set_result(replies.JobReply(job=view))
            else:
                self._waiters.setdefault(job_id, []).append((link, future))

    def watch(self, job_ids: list[bytes], link: MemoryLink) -> replies.Settled:
        """`link` is told of the end of each of these, once. Raises: as the node does."""
        with self._lock:
            return self._watches.watch(job_ids, link)

    def forget(self, link: MemoryLink) -> None:
        """It watches nothing any more."""
        with self._lock:
            self._watches.drop_peer(link)

    def _end_turn(self) -> None:
        while self.engine.dispatch():
            pass
        _, owed = self.engine.take_turn()
        for effect in owed:
            self._do(effect)

    def _do(self, effect: effects.Effect) -> None:
        if isinstance(effect, effects.JobEnded):
            for link, future in self._waiters.pop(effect.job_id, ()):
                view = self.engine.job_view(effect.job_id)
                link.settle(future, replies.JobReply(job=view))
            self._watches.tell_ended(self.engine.last_index, [effect.job_id])
        elif isinstance(effect, effects.PushJobs):
            self._links[effect.session_id].push(JobsPushed(effect.groups))
        elif isinstance(effect, effects.PushCancel):
            self._links[effect.session_id].push(CancelPushed(effect.leases))
        elif isinstance(effect, effects.SessionEnded):
            self._links.pop(effect.session_id, None)


class MemoryLink:
    """As `Link`, of one loop; it is always connected."""

    connected = True
    failure: HeadraceError | None = None
    last_exchange_age_ms = 0

    def __init__(self, target: MemoryTarget, events: LinkEvents) -> None:
        self._target = target
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._late: set[asyncio.Task[object]] = set()

    async def start(self) -> Welcome:
        welcome = Welcome(server_version="memory")
        self._events.on_connected(welcome)
        return welcome

    def call(self, command: Command) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        # In a later pass, as an answer over a socket would come.
        self._loop.call_soon(self._answer, command, future)
        return future

    def send(self, command: Command) -> bool:
        if isinstance(command, commands.Started):
            command = commands.MarkStarted(command.leases)
        self._target.run(command)
        return True

    def set_session(self, session_id: bytes | None, mode: int) -> None:
        pass

    async def close(self) -> None:
        self._target.forget(self)

    def push(self, push: Push) -> None:
        self._loop.call_soon_threadsafe(self._events.on_push, push)

    def settle(self, future: asyncio.Future[Any], reply: replies.Reply) -> None:
        self._loop.call_soon_threadsafe(_set_result, future, reply)

    def _answer(self, command: Command, future: asyncio.Future[Any]) -> None:
        if future.done():
            return
        try:
            if isinstance(command, commands.WaitJob):
                self._target.wait(command.job_id, self, future)
                return
            reply = self._reply_to(command)
        except HeadraceError as error:
            future.set_exception(error)
        else:
            follow_up = self._target.after_enqueue
            if follow_up is not None and isinstance(command, commands.Enqueue):
                self._answer_after(follow_up(), future, reply)
            else:
                future.set_result(reply)

    def _answer_after(
        self, follow_up: Coroutine[Any, Any, object], future: asyncio.Future[Any], reply: Any
    ) -> None:
        task = self._loop.create_task(follow_up)
        self._late.add(task)

        def done(task: asyncio.Task[object]) -> None:
            self._late.discard(task)
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            if future.done():
                return
            if error is None:
                future.set_result(reply)
            else:
                future.set_exception(error)

        task.add_done_callback(done)

    def _reply_to(self, command: Command) -> Any:
        if isinstance(command, commands.Flush):
            return replies.Done()
        if isinstance(command, commands.GetStats):
            return replies.StatsReply(gauges=self._target.engine.gauges())
        if isinstance(command, commands.OpenSession):
            return self._target.open_session(command, self)
        if isinstance(command, commands.Watch):
            return self._target.watch(command.job_ids, self)
        return self._target.run(command)


def _set_result(future: asyncio.Future[Any], reply: replies.Reply) -> None:
    if not future.done():
        future.set_result(reply)
