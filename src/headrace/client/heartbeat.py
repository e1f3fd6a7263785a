"""The sign of life of a worker: a thread, a loop and a connection of its own.

Why not the worker's loop: a handler that blocks it must not cost the worker its leases.
The heartbeat goes on, says how long the loop has not moved, and the server shows the
worker as stalled. Must never write to a connection of the worker's loop.

What it reads of the worker are single attributes, set by the loop; a count and a digest
that are a moment apart only differ from the server's once, and only twice alike counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future

import msgspec

from headrace.client.target import AnyLink, LinkEvents, Target
from headrace.model.commands import Heartbeat
from headrace.model.env import Env, LoopThread
from headrace.model.errors import HeadraceError, UnknownSession
from headrace.model.handshake import SESSION_ATTACH
from headrace.model.limits import BACKOFF_RECONNECT_MS_MAX


class Vitals(msgspec.Struct, frozen=True, gc=False):
    """A worker at one moment."""

    held_count: int
    held_digest: int
    loop_lag_ms: int
    stuck_slots: int


class HeartbeatThread:
    """Beats from `start` to `stop`. The callbacks run on its thread."""

    def __init__(
        self,
        env: Env,
        target: Target,
        session_id: bytes,
        interval_ms: int,
        vitals: Callable[[], Vitals],
        on_reconcile: Callable[[], None],
        on_unknown: Callable[[], None],
    ) -> None:
        self._env = env
        self._target = target
        self.session_id = session_id
        self._interval_s = interval_ms / 1_000
        self._vitals = vitals
        self._on_reconcile = on_reconcile
        self._on_unknown = on_unknown
        self._thread: LoopThread | None = None
        self._beating: asyncio.Task[None] | None = None
        self.beat_count = 0
        """Heartbeats that the server has answered."""

    def start(self) -> None:
        self._thread = self._env.threads.loop_thread("headrace-heartbeat")
        self._thread.call(self._begin)

    def stop(self) -> Future[None]:
        """Done once its connection is closed; then the thread ends. Does not wait."""
        thread = self._thread
        if thread is None:
            return _done()
        self._thread = None
        ended = thread.submit(self._end())
        ended.add_done_callback(lambda _: thread.stop())
        return ended

    def _begin(self) -> None:
        self._beating = asyncio.get_running_loop().create_task(self._beat_for_ever())

    async def _end(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait([self._beating])

    async def _beat_for_ever(self) -> None:
        while True:
            await self._beat_over_one_link()

    async def _beat_over_one_link(self) -> None:
        """Until it has failed for good. The worker's own may live on: without heartbeats its
        session would expire, and nobody would tell it."""
        link = self._target.make_link(LinkEvents())
        link.set_session(self.session_id, SESSION_ATTACH)
        try:
            await self._connect(link)
            while link.failure is None:
                await self._beat(link)
                await asyncio.sleep(self._interval_s)
        finally:
            await link.close()

    async def _connect(self, link: AnyLink) -> None:
        while True:
            try:
                await link.start()
            except HeadraceError:
                await asyncio.sleep(min(self._interval_s, BACKOFF_RECONNECT_MS_MAX / 1_000))
            else:
                return

    async def _beat(self, link: AnyLink) -> None:
        """One heartbeat, answered or given up within an interval; the next says all anew."""
        vitals = self._vitals()
        command = Heartbeat(
            self.session_id,
            vitals.held_count,
            vitals.held_digest,
            vitals.loop_lag_ms,
            vitals.stuck_slots,
        )
        try:
            async with asyncio.timeout(self._interval_s):
                seen = await link.call(command)
        except UnknownSession:
            self._on_unknown()
        except (HeadraceError, TimeoutError):
            return
        else:
            self.beat_count += 1
            if seen.reconcile:
                self._on_reconcile()


def _done() -> Future[None]:
    done: Future[None] = Future()
    done.set_result(None)
    return done
