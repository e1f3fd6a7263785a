"""One term of leading: the only writer of one engine, from recovery to stop or failure.

Joins turns, group commit, releases, leases, waiters, snapshots and upkeep; decides the
order in which they come:

1. `submit` runs commands in the turn; at the end of the turn parked claims are served
   and ready jobs dispatched, so that they share the commit of what fed them.
2. The turn's records go to the committer, which begins a commit if none is in flight.
3. When a commit is durable, the next one is begun, then replies and effects up to its
   index leave, each peer flushed once.

Must never let anything out that depends on records that are not durable, and never go
on with an engine whose records the log may have lost: `fail` ends the term.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from headrace.engine.engine import Engine
from headrace.log.base import Log, Refused
from headrace.model.commands import Claim, Command
from headrace.model.effects import Effect, JobEnded, PushCancel, PushJobs, SessionEnded
from headrace.model.env import IoThread
from headrace.model.errors import (
    ClientError,
    Draining,
    HeadraceError,
    Internal,
    OutcomeUnknown,
    Unavailable,
)
from headrace.model.limits import ASYNC_WINDOW_MS_MAX
from headrace.model.pushes import CancelPushed, DrainPushed, FinishedPushed, JobsPushed
from headrace.model.replies import Claimed, PushedGroup
from headrace.runtime.budget import Budget
from headrace.runtime.committer import Appended, Committer, CommitterEvents
from headrace.runtime.handlers import Handlers, Parts
from headrace.runtime.leases import LeaseWatch
from headrace.runtime.node_env import NodeEnv
from headrace.runtime.peer import Peer
from headrace.runtime.progress import ProgressGate
from headrace.runtime.recovery import Recovered
from headrace.runtime.releases import Owed, PushFinished, Releases
from headrace.runtime.reports import Report
from headrace.runtime.seeds import Seeds
from headrace.runtime.sessions import Sessions
from headrace.runtime.snapshots import SnapshotOptions, Snapshots
from headrace.runtime.stats import Stats
from headrace.runtime.term import Term
from headrace.runtime.turns import TurnEvents, Turns
from headrace.runtime.upkeep import Upkeep
from headrace.runtime.waiters import ClaimKey, Waiting
from headrace.runtime.watches import Watches

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


class LeaderOptions(msgspec.Struct, frozen=True):
    snapshot: SnapshotOptions = SnapshotOptions()
    async_window_ms: int = ASYNC_WINDOW_MS_MAX


class Leader:
    """Serves until `fail` or `close`. All methods belong to the loop's thread."""

    def __init__(
        self,
        env: NodeEnv,
        log: Log,
        recovered: Recovered,
        commit_thread: IoThread,
        snapshot_thread: IoThread,
        loop: asyncio.AbstractEventLoop,
        options: LeaderOptions,
        report: Report,
        on_failed: Callable[[BaseException], None],
    ) -> None:
        self.engine: Engine = recovered.engine
        self.epoch = recovered.epoch
        self.stats = Stats()
        self.failed = False
        self._term = Term(self.engine, log, recovered.epoch, env.clock, loop, self.stats, report)
        self._loop = loop
        self._report = report
        self._on_failed = on_failed
        self._commit_thread = commit_thread
        self._log_clock = recovered.log_clock
        self._began_ns = env.clock.mono_ns()
        self._closed = False
        self._refused_after = -1
        """Durable index when a refusal was last reported."""
        self._dispatch_held = False
        """Ready jobs wait until the disk has caught up."""
        self._on_drained: Callable[[], None] | None = None
        self._on_quiet: Callable[[], None] | None = None
        self._sessions = Sessions()
        self._budget = Budget()
        self._releases = Releases(self._deliver)
        self._watches: Watches[Peer] = Watches(self.engine, self._releases.hold_finished)
        self._leases = LeaseWatch(self.engine, env.clock, self._sessions)
        self._make_writers(Seeds(env.entropy))
        self._upkeep = Upkeep(
            self._term,
            self._turns,
            self._committer,
            self._leases,
            self._sessions,
            self._budget,
            self.fail,
        )
        self._snapshots = Snapshots(
            self._term,
            self._committer,
            snapshot_thread,
            options.snapshot,
            recovered.snapshot_bytes,
        )
        self._async_window_ms = options.async_window_ms
        self._make_handlers()

    def _make_writers(self, seeds: Seeds) -> None:
        term = self._term
        self._committer = Committer(
            term.log,
            term.epoch,
            self._commit_thread,
            term.clock,
            term.loop,
            CommitterEvents(self._durable, self._refused, self.fail, self._idle),
            self.engine.last_index,
        )
        self._turns = Turns(
            term,
            self._committer,
            self._log_clock,
            seeds,
            TurnEvents(self._begun, self._ending, self._taken, self._ended, self.fail),
        )

    def _make_handlers(self) -> None:
        parts = Parts(
            self.engine,
            self._turns,
            self._committer,
            self._releases,
            self._sessions,
            self._leases,
            self._watches,
            self._budget,
            self.stats,
            self._async_window_ms,
        )
        self._gate = ProgressGate(self.engine, self._turns, self._loop, self.fail)
        self._waits: Waiting[bytes, None] = Waiting(
            self._loop, lambda waiter: self._handlers.wait_overdue(waiter)
        )
        self._claims: Waiting[ClaimKey, Claim] = Waiting(
            self._loop, lambda waiter: self._handlers.claim_overdue(waiter)
        )
        self._handlers = Handlers(
            parts,
            self._waits,
            self._claims,
            self._gate,
            self._upkeep.watch_balance,
            self._gauges,
        )

    def begin(self) -> None:
        """Leases have their full time before them, and what is due is planned."""
        for session_id in self.engine.session_ids():
            self.engine.set_connected(session_id, False)
        self._leases.watch_all()
        self._turns.open()

    # --- commands

    def submit(self, command: Command, peer: Peer, request_id: int) -> None:
        """See `Node.submit`."""
        if not self._turns.is_open:
            self._turns.open()
        self.stats.commands += 1
        try:
            self._handlers.take(command, peer, request_id)
        except (ClientError, Unavailable) as error:
            self._handlers.refuse(peer, request_id, error)
        except Exception as bug:
            if request_id:
                self._releases.say(peer, request_id, _internal(bug))
            self.fail(bug)

    def connect(self, session_id: bytes, peer: Peer) -> None:
        if self.knows_session(session_id):
            self._turns.open()
            self._handlers.connect(session_id, peer)

    def knows_session(self, session_id: bytes) -> bool:
        facts = self._sessions.get(session_id)
        return facts is not None and not facts.expiring

    def drop_peer(self, peer: Peer) -> None:
        """Nothing is pushed to `peer` any more; its sessions live on without it."""
        self._waits.drop_peer(peer)
        self._claims.drop_peer(peer)
        self._watches.drop_peer(peer)
        for session_id in self._sessions.disconnect(peer):
            self.engine.set_connected(session_id, False)

    def log_time_ms(self) -> int:
        return self._log_clock.now_ms()

    # --- the turn

    def _begun(self) -> None:
        self._handlers.look_at_load()

    def _ending(self) -> bool:
        self._dispatch_held = not self._handlers.may_dispatch()
        if self._dispatch_held:
            return False
        if self._claims.count:
            self._handlers.serve_parked()
        return self.engine.dispatch()

    def _taken(self, index: int, effects: list[Effect]) -> None:
        ended: list[bytes] = []
        is_awaited = self._waits.count or self._watches.count
        for effect in effects:
            kind = type(effect)
            if kind is JobEnded:
                if is_awaited:
                    ended.append(effect.job_id)  # type: ignore[union-attr]
            elif kind is SessionEnded:
                self._end_session(effect.session_id)  # type: ignore[union-attr]
            else:
                self._releases.hold_effect(index, effect)
        if ended:
            self._tell_ended(index, ended)

    def _tell_ended(self, index: int, job_ids: list[bytes]) -> None:
        if self._waits.count:
            for job_id in job_ids:
                self._handlers.job_ended(job_id)
        if self._watches.count:
            self._watches.tell_ended(index, job_ids)

    def _end_session(self, session_id: bytes) -> None:
        if not self.engine.session_lease_ms(session_id):  # else it was opened again since
            self._sessions.end(session_id)

    def _ended(self) -> None:
        self._releases.release(self._committer.durable_index)
        self._upkeep.plan()
        if self._snapshots.is_due():
            self._snapshots.begin()
        if self._on_drained is not None:
            self._check_drained()
        if self._committer.in_flight:
            self._commit_thread.give_way()
        self._check_quiet()

    # --- the log

    def _durable(self, commit: Appended) -> None:
        total_s = commit.total_ns / NS_PER_S
        self.stats.note_commit(
            commit.body_bytes, commit.command_count, total_s, commit.append_ns / NS_PER_S
        )
        self._snapshots.wal_bytes = commit.wal_bytes
        self._budget.note_commit(total_s * 1000)
        self._upkeep.note_durable(commit.flight_ns, commit.room_bytes)
        self._releases.release(commit.last_index)
        if self._dispatch_held or self._snapshots.is_due():
            self._turns.open()

    def _refused(self, error: Refused) -> None:
        self.stats.appends_refused += 1
        durable_index = self._committer.durable_index
        if self._refused_after != durable_index:  # once a commit: it is offered five times a second
            self._refused_after = durable_index
            self._report("log_refused", error=str(error))
        self._upkeep.note_refused()

    def _idle(self) -> None:
        self._upkeep.note_idle()
        self._check_quiet()

    def _deliver(self, effect: Owed, index: int) -> Peer | None:
        if type(effect) is PushJobs:
            self._upkeep.watch_balance()
            groups = self._still_held(effect.groups)
            if not groups:
                return None
            return self._sessions.push(effect.session_id, JobsPushed(groups), index)
        if type(effect) is PushCancel:
            return self._sessions.push(effect.session_id, CancelPushed(effect.leases), index)
        if type(effect) is PushFinished:
            effect.peer.send_push(FinishedPushed(effect.jobs))
            return effect.peer
        return None

    def _still_held(self, groups: list[PushedGroup]) -> list[PushedGroup]:
        """Without the jobs whose lease has ended while the disk was slow: they are others' now."""
        holds = self.engine.holds
        if all(holds(job.job_id, group.token) for group in groups for job in group.jobs):
            return groups
        left = []
        for group in groups:
            jobs = [job for job in group.jobs if holds(job.job_id, group.token)]
            if jobs:
                left.append(msgspec.structs.replace(group, jobs=jobs))
        return left

    # --- the end

    def drain(self, drain_ms: int, on_drained: Callable[[], None]) -> None:
        """No new work from here on; `on_drained` is called once no lease is left.

        Workers are told that they have `drain_ms`.
        """
        self._handlers.draining = True
        self._handlers.look_at_load()
        self._on_drained = on_drained
        deadline_ms = self.log_time_ms() + drain_ms
        for peer in self._sessions.peers():
            peer.send_push(DrainPushed(deadline_ms))
            peer.flush()
        self._turns.open()
        for waiter in list(self._claims.take_all()):
            self._handlers.hold(waiter.peer, waiter.request_id, Claimed())

    def finish(self, on_quiet: Callable[[], None]) -> None:
        """Nothing more is taken; `on_quiet` when all that was taken is durable and answered."""
        for waiter in list(self._waits.take_all()):
            self._handlers.refuse(waiter.peer, waiter.request_id, _stopping())
        self._turns.open()
        self._snapshots.stop()
        self._upkeep.stop()
        self._gate.stop()
        self._on_quiet = on_quiet

    def _check_quiet(self) -> None:
        if self._on_quiet is not None and self._committer.idle and not self._turns.is_open:
            self._on_quiet()

    def _check_drained(self) -> None:
        leased = self.engine.gauges()["headrace_jobs_leased"]
        if not leased and self._on_drained is not None:
            on_drained, self._on_drained = self._on_drained, None
            on_drained()

    def close(self) -> None:
        """The term is over; whoever still waits is told that nobody knows."""
        if self._closed:
            return
        self._closed = True
        self._turns.close()
        self._upkeep.stop()
        self._gate.stop()
        self._snapshots.stop()
        self._committer.close()
        for wait in list(self._waits.take_all()):
            self._releases.say(wait.peer, wait.request_id, _stopping())
        for claim in list(self._claims.take_all()):
            self._releases.say(claim.peer, claim.request_id, _stopping())
        self._releases.fail(_unknown)

    def fail(self, error: BaseException) -> None:
        """The log may have lost what memory holds, or memory is wrong: this term is over."""
        if self._closed:
            return
        self.failed = True
        self._report("leader_failed", error=str(error), kind=type(error).__name__)
        self.close()
        self._on_failed(error)

    def _gauges(self) -> dict[str, float]:
        return {
            "headrace_last_index": float(self.engine.last_index),
            "headrace_durable_index": float(self._committer.durable_index),
            "headrace_pending_bytes": float(self._turns.waiting_bytes),
            "headrace_replies_waiting": float(self._releases.waiting),
            "headrace_claims_parked": float(self._claims.count),
            "headrace_jobs_waited_for": float(self._waits.count),
            "headrace_jobs_watched": float(self._watches.count),
            "headrace_sessions_connected": float(self._sessions.connected_count()),
            "headrace_wal_bytes": float(self._snapshots.wal_bytes),
            "headrace_log_room_bytes": float(self._budget.room_bytes),
            "headrace_snapshot_running": float(self._snapshots.running),
            "headrace_log_time_ahead_seconds": self._log_clock.ahead_of_wall_ms() / 1000,
            "headrace_async_window_seconds": self._async_window_ms / 1000,
            "headrace_epoch": float(self.epoch.number),
            "headrace_uptime_seconds": (self._term.clock.mono_ns() - self._began_ns) / NS_PER_S,
        }


def _internal(bug: Exception) -> HeadraceError:
    return Internal(
        f"A bug in headrace ended the server: {type(bug).__name__}: {bug}.",
        hint="Please report it, with the lines that the server has logged.",
    )


def _unknown() -> HeadraceError:
    return OutcomeUnknown(
        "The server stopped before this was known to be durable.",
        hint="It may or may not have happened: repeat the call with the same ids.",
    )


def _stopping() -> Draining:
    return Draining(
        "The server is stopping.", hint="Ask again when it is back.", retry_after_ms=1_000
    )
