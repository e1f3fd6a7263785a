"""The node: one log, one engine, and everybody who asks something of them.

This is the face of the runtime. A server, an embedded owner and tests make one, `start`
it, hand commands to `submit`, and `stop` it; everything behind it is `leader.py`.

How to use it:

- One event loop, one thread: no method may be called from another thread, nor from
  within a `Peer` method.
- Whoever asks is a `Peer` (`peer.py`); peers are told apart by identity. Tell the node
  when one is gone (`peer_gone`).
- Requests of one peer may be answered out of order. Every answer carries the index that
  it observed (`reply.index`, `error.index`) and leaves when that index is durable; only
  enqueue and ack in `async` queues are answered before, with `durability` 0.
- `Started`, `Progress` and `LogLines` are not answered; give them request id 0.
- OPEN_SESSION and RESUME_SESSION make their peer the primary one of the session: pushes
  go there. A connection that only attaches (heartbeats) needs no call at all.
- What was pushed after a worker sent RESUME_SESSION and before its answer is void: the
  answer has decided about those jobs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar

import msgspec

from headrace.engine.engine import Engine
from headrace.log.base import Log
from headrace.model import limits
from headrace.model.commands import Command
from headrace.model.env import IoThread
from headrace.model.errors import Draining, HeadraceError, invariant
from headrace.model.options import EngineOptions
from headrace.runtime.leader import Leader, LeaderOptions
from headrace.runtime.node_env import NodeEnv
from headrace.runtime.peer import Peer
from headrace.runtime.recovery import Recovered, recover
from headrace.runtime.reports import Report, ignore_report
from headrace.runtime.snapshots import SnapshotOptions

T = TypeVar("T")


class NodeOptions(msgspec.Struct, frozen=True):
    """What the node is told once, when it is made."""

    name: str = "node"
    """Written into the log with each epoch; for people."""
    engine: EngineOptions = EngineOptions()
    snapshot_wal_bytes: int = limits.SNAPSHOT_WAL_BYTES_MIN
    snapshot_age_ms: int = limits.SNAPSHOT_AGE_MS_MAX
    async_window_ms: int = limits.ASYNC_WINDOW_MS_MAX
    """Longest that early replies of `async` queues may be ahead of the disk."""
    tune_gc: bool = True
    """Freeze what recovery built, and raise the collector's thresholds, for this process."""


def ignore_failure(error: BaseException) -> None:
    """For who looks at `Node.failed` instead."""


class Node:
    """One node over one log; it leads from `start` until `stop` or a failure."""

    def __init__(
        self,
        env: NodeEnv,
        log: Log,
        options: NodeOptions | None = None,
        *,
        report: Report = ignore_report,
        on_failed: Callable[[BaseException], None] = ignore_failure,
    ) -> None:
        """`log` is not open yet; the node opens it and closes it.

        `report` gets events for the operator. `on_failed` is called on the loop, once,
        when the node cannot go on (the log is lost or fenced, or a bug): everybody who
        waited has been told `outcome_unknown` by then. A server exits with code 74; who
        wants to go on calls `stop` and makes a new node over a new log object.
        """
        self._env = env
        self._log = log
        self._options = options or NodeOptions()
        self._report = report
        self._on_failed = on_failed
        self._leader: Leader | None = None
        self._threads: list[IoThread] = []
        self._recovered: Recovered | None = None
        self._draining = False
        self._finishing = False
        self._hurry: Callable[[], None] | None = None
        self._stopped: asyncio.Future[None] | None = None

    # --- what it is

    @property
    def cluster_id(self) -> bytes:
        return self._started().info.cluster_id

    @property
    def node_id(self) -> bytes:
        return self._started().info.node_id

    @property
    def epoch(self) -> int:
        return self._started().epoch.number

    @property
    def draining(self) -> bool:
        """It takes no new work; refuse new connections."""
        return self._draining

    @property
    def failed(self) -> bool:
        return self._leader is not None and self._leader.failed

    @property
    def engine(self) -> Engine | None:
        """Of the leader, while there is one: to be looked at by who simulates, never changed."""
        return None if self._leader is None else self._leader.engine

    def log_time_ms(self) -> int:
        assert self._leader is not None
        return self._leader.log_time_ms()

    # --- its life

    async def start(self) -> Recovered:
        """The log is led, the engine equals it, and commands are taken.

        Raises: `Locked` with the holder's pid and host; the stop codes of recovery;
        `ClockPast`. Nothing stays open then.
        """
        invariant(self._recovered is None, "a node starts once")
        loop = asyncio.get_running_loop()
        commit_thread = self._env.threads.io_thread("headrace-commit", loop)
        options = self._options

        led: list[Recovered] = []

        def call() -> Recovered:
            recovered = recover(
                self._env,
                self._log,
                options.name,
                options.engine,
                tune_gc=options.tune_gc,
                report=self._report,
            )
            led.append(recovered)
            return recovered

        try:
            recovered = await call_on(commit_thread, loop, call)
            self._lead(recovered, commit_thread, loop)
        except BaseException:
            commit_thread.close()
            if led:  # else recovery has closed the log
                self._log.close()
            raise
        return recovered

    def _lead(
        self, recovered: Recovered, commit_thread: IoThread, loop: asyncio.AbstractEventLoop
    ) -> None:
        options = self._options
        snapshot_thread = self._env.threads.io_thread("headrace-snapshot", loop)
        self._threads = [snapshot_thread, commit_thread]
        self._recovered = recovered
        leader = Leader(
            self._env,
            self._log,
            recovered,
            commit_thread,
            snapshot_thread,
            loop,
            LeaderOptions(
                SnapshotOptions(options.snapshot_wal_bytes, options.snapshot_age_ms),
                options.async_window_ms,
            ),
            self._report,
            self._failed,
        )
        leader.begin()
        self._leader = leader
        self._report(
            "node_leads",
            epoch=recovered.epoch.number,
            last_index=leader.engine.last_index,
            record_count=recovered.record_count,
            dropped_bytes=recovered.info.dropped_bytes,
            seconds=round(recovered.seconds, 3),
            async_window_ms=options.async_window_ms,
        )

    async def stop(self, drain_ms: int = limits.DRAIN_MS_DEFAULT) -> None:
        """Drained for at most `drain_ms`, everything durable and answered, the log closed.

        While it drains, workers finish what they hold; new work is refused with
        `draining`. Ends early when no lease is left. A log that takes
        nothing holds it up for STOP_QUIET_MS more. A second call stops at once: it
        waits for nothing but the call that the disk is at. Harmless when not started.

        Raises: what `Log.close` raises.
        """
        if self._leader is None:
            return
        if self._stopped is not None:
            if self._hurry is not None:
                self._hurry()
            await asyncio.shield(self._stopped)
            return
        self._stopped = asyncio.get_running_loop().create_future()
        try:
            await self._drain(self._leader, drain_ms)
            self._close(self._leader)
        finally:
            self._stopped.set_result(None)

    # --- what is asked of it

    def submit(self, command: Command, peer: Peer, request_id: int) -> None:
        """`command` runs in the turn of this pass of the loop; `peer` is answered later.

        Raises nothing: refusals, overload included, are answered by `send_error`. All
        answers of one release are followed by one `flush` of each peer that got any.
        """
        leader = self._leader
        if leader is None or self._finishing or leader.failed:
            if request_id:
                peer.send_error(request_id, _not_serving())
                peer.flush()
            return
        leader.submit(command, peer, request_id)

    def session_connected(self, session_id: bytes, peer: Peer) -> None:
        """Pushes of the session go to `peer`: the newest connection wins.

        OPEN_SESSION and RESUME_SESSION do this themselves. Nothing for unknown sessions.
        """
        if self._leader is not None and not self._finishing:
            self._leader.connect(session_id, peer)

    def knows_session(self, session_id: bytes) -> bool:
        """It is open, and can be resumed."""
        return self._leader is not None and self._leader.knows_session(session_id)

    def peer_gone(self, peer: Peer) -> None:
        """Nobody reads there any more: its waits are dropped, and its sessions get nothing
        new until they resume. They keep their leases while heartbeats come."""
        if self._leader is not None:
            self._leader.drop_peer(peer)

    # --- inside

    def _started(self) -> Recovered:
        assert self._recovered is not None, "not started"
        return self._recovered

    async def _drain(self, leader: Leader, drain_ms: int) -> None:
        if leader.failed:
            return
        loop = asyncio.get_running_loop()
        drained: asyncio.Future[None] = loop.create_future()
        quiet: asyncio.Future[None] = loop.create_future()

        def hurry() -> None:
            _resolve(drained)
            _resolve(quiet)

        self._draining = True
        self._hurry = hurry
        leader.drain(drain_ms, lambda: _resolve(drained))
        deadline = loop.call_later(drain_ms / 1000, _resolve, drained)
        await drained
        deadline.cancel()
        self._finishing = True
        leader.finish(lambda: _resolve(quiet))
        deadline = loop.call_later(limits.STOP_QUIET_MS / 1000, _resolve, quiet)
        await quiet
        deadline.cancel()

    def _close(self, leader: Leader) -> None:
        leader.close()
        for thread in self._threads:
            thread.close()
        # A log that has failed says so again here; whoever must know has been told.
        with contextlib.suppress(*((Exception,) if leader.failed else ())):
            self._log.close()

    def _failed(self, error: BaseException) -> None:
        if self._hurry is not None:
            self._hurry()
        self._on_failed(error)


async def call_on(thread: IoThread, loop: asyncio.AbstractEventLoop, call: Callable[[], T]) -> T:
    """What `call` returns or raises on that thread."""
    future: asyncio.Future[T] = loop.create_future()

    def done(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    thread.submit(call, done)
    return await future


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _not_serving() -> HeadraceError:
    return Draining(
        "The server has stopped.", hint="Ask again when it is back.", retry_after_ms=1_000
    )
