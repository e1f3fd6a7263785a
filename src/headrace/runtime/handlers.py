"""What the node does about each command beside running it.

Most commands are run and their reply waits for the disk. Here is the rest: who may come
in under load, which replies may leave early, who waits, and what only the leader knows
(heartbeats, connections, started jobs, statistics).

Must never answer anything but through `Releases`, and never change the engine but
through `Turns`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec

from headrace.engine.engine import Engine
from headrace.model import commands
from headrace.model.commands import Command
from headrace.model.errors import ClientError, Draining, Unavailable, UnknownSession
from headrace.model.ids import id_to_text
from headrace.model.job import FINAL_STATES
from headrace.model.limits import ASYNC_WINDOW_MS_MAX, CLAIM_JOBS_MAX
from headrace.model.queue import DURABILITY_ASYNC, DURABILITY_GROUP, DURABILITY_SYNC
from headrace.model.replies import (
    Claimed,
    Done,
    HeartbeatSeen,
    JobReply,
    Reply,
    SessionPage,
    StatsReply,
)
from headrace.runtime.budget import Budget, disk_full, size_of
from headrace.runtime.committer import Committer
from headrace.runtime.leases import LeaseWatch
from headrace.runtime.peer import Peer
from headrace.runtime.progress import ProgressGate
from headrace.runtime.releases import Releases
from headrace.runtime.sessions import Sessions
from headrace.runtime.stats import Stats, job_totals
from headrace.runtime.turns import Turns
from headrace.runtime.waiters import ClaimKey, Waiter, Waiting, claim_key
from headrace.runtime.watches import Watches

Handler = Callable[[Any, Peer, int], None]

_DRAINING_RETRY_MS = 1_000
_PARKED_CLAIMS_A_TURN = CLAIM_JOBS_MAX


class Parts(msgspec.Struct, frozen=True):
    """What handlers work with."""

    engine: Engine
    turns: Turns
    committer: Committer
    releases: Releases
    sessions: Sessions
    leases: LeaseWatch
    watches: Watches[Peer]
    budget: Budget
    stats: Stats
    async_window_ms: int = ASYNC_WINDOW_MS_MAX


class Handlers:
    """One method for each command that needs more than to be run."""

    def __init__(
        self,
        parts: Parts,
        waits: Waiting[bytes, None],
        claims: Waiting[ClaimKey, commands.Claim],
        gate: ProgressGate,
        watch_balance: Callable[[], None],
        gauges: Callable[[], dict[str, float]],
    ) -> None:
        self.draining = False
        self._new_refusal: Callable[[], Unavailable] | None = None
        self._ending_refusal: Callable[[], Unavailable] | None = None
        self._all_group = False
        self._engine = parts.engine
        self._turns = parts.turns
        self._committer = parts.committer
        self._releases = parts.releases
        self._sessions = parts.sessions
        self._leases = parts.leases
        self._watches = parts.watches
        self._budget = parts.budget
        self._stats = parts.stats
        self._async_window_ms = parts.async_window_ms
        self._waits = waits
        self._claims = claims
        self._gate = gate
        self._watch_balance = watch_balance
        self._gauges = gauges
        self._table: dict[type[Command], Handler] = {
            commands.Enqueue: self._enqueue,
            commands.Claim: self._claim,
            commands.Started: self._started,
            commands.Ack: self._ack,
            commands.ConfigureQueue: self._configure_queue,
            commands.Extend: self._extend,
            commands.Progress: self._progress,
            commands.LogLines: self._unanswered,
            commands.OpenSession: self._open_session,
            commands.Heartbeat: self._heartbeat,
            commands.SetCredit: self._set_credit,
            commands.ResumeSession: self._resume_session,
            commands.CloseSession: self._close_session,
            commands.WaitJob: self._wait_job,
            commands.Watch: self._watch,
            commands.ListSessions: self._list_sessions,
            commands.GetStats: self._get_stats,
            commands.Flush: self._flush,
        }
        self.note_queues()

    def take(self, command: Command, peer: Peer, request_id: int) -> None:
        """`command` has run, or waits; its answer is on its way.

        Raises: `ClientError`, `Unavailable`: refused, nothing changed.
        """
        handler = self._table.get(type(command))
        if handler is not None:
            handler(command, peer, request_id)
        else:
            self._check_ending()
            self.hold(peer, request_id, self._turns.run(command))

    def hold(self, peer: Peer, request_id: int, reply: Reply) -> None:
        """`reply` leaves when all that the engine has done so far is durable."""
        self._releases.hold(self._engine.last_index, peer, request_id, reply)

    # --- admission

    def look_at_load(self) -> None:
        """What is refused from here on; a turn can exceed the bounds by one commit."""
        waiting, waiting_bytes = self._releases.waiting, self._turns.waiting_bytes
        self._ending_refusal = self._budget.ending_refusal(waiting, waiting_bytes)
        self._new_refusal = _draining if self.draining else None
        if not self.draining:
            self._new_refusal = self._budget.new_refusal(waiting, waiting_bytes)

    def may_dispatch(self) -> bool:
        """Claims are new work too, whoever asks for them."""
        self.look_at_load()
        return self._new_refusal is None

    def _check_new(self) -> None:
        if self._new_refusal is not None:
            raise self._new_refusal()

    def _check_ending(self) -> None:
        if self._ending_refusal is not None:
            raise self._ending_refusal()

    def note_queues(self) -> None:
        """Whether each queue has durability `group`, so that calls need not be looked at."""
        state = self._engine.state
        self._all_group = state.options.default_queue.durability == DURABILITY_GROUP and all(
            queue.settings.durability == DURABILITY_GROUP for queue in state.queues.values()
        )

    def _configure_queue(self, command: Command, peer: Peer, request_id: int) -> None:
        self._check_ending()
        reply = self._turns.run(command)
        self.note_queues()
        self.hold(peer, request_id, reply)

    # --- producing and settling

    def _enqueue(self, command: commands.Enqueue, peer: Peer, request_id: int) -> None:
        if self._new_refusal is not None:
            raise self._new_refusal()
        if self._budget.room_bytes <= 0:
            raise disk_full()
        if self._all_group:
            self.hold(peer, request_id, self._turns.run(command, size_of(command)))
        else:
            self._run_durably(command, peer, request_id, size_of(command))

    def _ack(self, command: commands.Ack, peer: Peer, request_id: int) -> None:
        self._check_ending()
        if self._all_group:
            self.hold(peer, request_id, self._turns.run(command, size_of(command)))
        else:
            self._run_durably(command, peer, request_id, size_of(command))

    def _run_durably(
        self,
        command: Command,
        peer: Peer,
        request_id: int,
        size_bytes: int,
    ) -> None:
        durability = self._engine.durability_of(command)
        reply = self._turns.run(command, size_bytes)
        if durability == DURABILITY_SYNC:
            reply.durability = durability
            self.hold(peer, request_id, reply)
            self._turns.cut(seals=True)
        elif durability == DURABILITY_ASYNC and self._window_is_open():
            reply.durability = durability
            reply.index = self._engine.last_index
            self._stats.early_replies += 1
            self._releases.say(peer, request_id, reply)
        else:
            self.hold(peer, request_id, reply)

    def _window_is_open(self) -> bool:
        """An early reply now is at most `async_window_ms` ahead of the disk."""
        return self._committer.undurable_ms() < self._async_window_ms

    def _progress(self, command: commands.Progress, peer: Peer, request_id: int) -> None:
        self._check_ending()
        self._gate.take(command)

    def _unanswered(self, command: Command, peer: Peer, request_id: int) -> None:
        self._check_ending()
        self._turns.run(command)

    # --- leases without a session

    def _claim(self, command: commands.Claim, peer: Peer, request_id: int) -> None:
        self._check_new()
        reply = cast(Claimed, self._turns.run(command))
        if command.wait_ms > 0 and not reply.groups:
            self._claims.park(claim_key(command), peer, request_id, command, command.wait_ms)
        else:
            self._answer_claim(command, peer, request_id, reply)

    def _answer_claim(
        self, command: commands.Claim, peer: Peer, request_id: int, reply: Claimed
    ) -> None:
        for group in reply.groups:
            job_ids = [job.job_id for job in group.jobs]
            self._leases.watch_claimed(job_ids, group.token, group.timeout_ms, command.lease_ms)
        self.hold(peer, request_id, reply)

    def serve_parked(self) -> None:
        """Parked claims have what became ready in this turn, first come first served."""
        left = _PARKED_CLAIMS_A_TURN
        for key in self._claims.waited_for():
            while left and (waiter := self._claims.first(key)) and self._engine.has_ready(*key):
                left -= 1
                if not self._serve(waiter):
                    break

    def _serve(self, waiter: Waiter[ClaimKey, commands.Claim]) -> bool:
        try:
            reply = cast(Claimed, self._turns.run(waiter.command))
        except (ClientError, Unavailable) as error:
            self._claims.remove(waiter)
            self.refuse(waiter.peer, waiter.request_id, error)
            return True
        if not reply.groups:
            return False
        self._claims.remove(waiter)
        self._answer_claim(waiter.command, waiter.peer, waiter.request_id, reply)
        return True

    def claim_overdue(self, waiter: Waiter[ClaimKey, commands.Claim]) -> None:
        """Nothing became ready in its time."""
        self._turns.open()
        self.hold(waiter.peer, waiter.request_id, Claimed())

    def _extend(self, command: commands.Extend, peer: Peer, request_id: int) -> None:
        self._check_ending()
        reply = self._turns.run(command)
        for job_id, token in command.leases:
            self._leases.extend(job_id, token, command.lease_ms)
        self.hold(peer, request_id, reply)

    # --- sessions

    def _open_session(self, command: commands.OpenSession, peer: Peer, request_id: int) -> None:
        self._check_new()
        self._check_not_expiring(command.session_id)
        reply = self._turns.run(command)
        self.connect(command.session_id, peer)
        self.hold(peer, request_id, reply)

    def _resume_session(self, command: commands.ResumeSession, peer: Peer, request_id: int) -> None:
        self._check_ending()
        self._check_not_expiring(command.session_id)
        voided_index = self._engine.last_index
        reply = self._turns.run(command)
        self.connect(command.session_id, peer)
        facts = self._sessions.get(command.session_id)
        assert facts is not None
        facts.resumed_index = voided_index
        facts.difference = None
        started = [(held.job_id, held.token) for held in command.held if held.started]
        self._leases.note_started(started)
        self.hold(peer, request_id, reply)

    def _check_not_expiring(self, session_id: bytes) -> None:
        facts = self._sessions.get(session_id)
        if facts is not None and facts.expiring:
            raise unknown_session(session_id)

    def _set_credit(self, command: commands.SetCredit, peer: Peer, request_id: int) -> None:
        self._check_ending()
        reply = self._turns.run(command)
        facts = self._sessions.get(command.session_id)
        connected = facts is not None and facts.peer is not None and not facts.expiring
        self._engine.set_connected(command.session_id, connected)
        self.hold(peer, request_id, reply)

    def _close_session(self, command: commands.CloseSession, peer: Peer, request_id: int) -> None:
        """Jobs that started a moment ago are charged, as the log would know a moment later."""
        self._check_ending()
        fresh = self._leases.fresh_of(command.session_id)
        if fresh:
            self._turns.run(commands.MarkStarted(fresh))
        self.hold(peer, request_id, self._turns.run(command))

    def connect(self, session_id: bytes, peer: Peer) -> None:
        """`peer` is primary for the session, which has a full lease before it."""
        self._leases.watch_session(session_id)
        self._sessions.connect(session_id, peer)
        self._engine.set_connected(session_id, True)
        self._watch_balance()

    def _heartbeat(self, command: commands.Heartbeat, peer: Peer, request_id: int) -> None:
        facts = self._sessions.get(command.session_id)
        if facts is None or facts.expiring:
            raise unknown_session(command.session_id)
        facts.note(command, self._leases.now_ns())
        held = self._engine.leases_of(command.session_id) if command.held_count >= 0 else []
        reconcile = facts.must_reconcile(command, held)
        self.hold(peer, request_id, HeartbeatSeen(reconcile=reconcile))

    def _started(self, command: commands.Started, peer: Peer, request_id: int) -> None:
        self._leases.note_started(command.leases)

    # --- reading

    def _wait_job(self, command: commands.WaitJob, peer: Peer, request_id: int) -> None:
        self._check_ending()
        view = self._engine.job_view(command.job_id, True)
        if view.state in FINAL_STATES or command.wait_ms <= 0:
            self.hold(peer, request_id, JobReply(job=view))
        else:
            self._waits.park(command.job_id, peer, request_id, None, command.wait_ms)

    def job_ended(self, job_id: bytes) -> None:
        """Whoever waits for it has its answer with this turn.

        Revived since, in the same turn: its end is still to come.
        """
        if self._waits.first(job_id) is None or self._is_live(job_id):
            return
        for waiter in self._waits.take(job_id):
            self._answer_wait(waiter)

    def _is_live(self, job_id: bytes) -> bool:
        try:
            return self._engine.end_view(job_id) is None
        except ClientError:
            return False

    def wait_overdue(self, waiter: Waiter[bytes, None]) -> None:
        """The state it has now is the answer."""
        self._turns.open()
        self._answer_wait(waiter)

    def _answer_wait(self, waiter: Waiter[bytes, None]) -> None:
        try:
            view = self._engine.job_view(waiter.key, True)
        except ClientError as error:
            self.refuse(waiter.peer, waiter.request_id, error)
        else:
            self.hold(waiter.peer, waiter.request_id, JobReply(job=view))

    def _watch(self, command: commands.Watch, peer: Peer, request_id: int) -> None:
        self._check_ending()
        self.hold(peer, request_id, self._watches.watch(command.job_ids, peer))

    def _list_sessions(self, command: commands.ListSessions, peer: Peer, request_id: int) -> None:
        self._check_ending()
        page = cast(SessionPage, self._turns.run(command))
        now_ns = self._leases.now_ns()
        for view in page.sessions:
            facts = self._sessions.get(view.session_id)
            if facts is not None:
                facts.show(view, now_ns)
        self.hold(peer, request_id, page)

    def _get_stats(self, command: commands.GetStats, peer: Peer, request_id: int) -> None:
        self.hold(
            peer,
            request_id,
            StatsReply(
                counters={**job_totals(self._engine), **self._stats.counters()},
                gauges={**self._engine.gauges(), **self._gauges()},
                histograms=self._stats.histograms(),
            ),
        )

    def _flush(self, command: commands.Flush, peer: Peer, request_id: int) -> None:
        self.hold(peer, request_id, Done())

    # --- refusals

    def refuse(self, peer: Peer, request_id: int, error: ClientError | Unavailable) -> None:
        """The refusal leaves when what it observed is durable; unanswered frames have none."""
        self._stats.note_refusal(error.code)
        if request_id:
            # A traceback would keep every frame of the turn alive until the disk is done.
            self._releases.hold(
                self._engine.last_index, peer, request_id, error.with_traceback(None)
            )


def _draining() -> Draining:
    return Draining(
        "The server is stopping; it takes no new work.",
        hint="Try again: another one, or this one restarted, will take it.",
        retry_after_ms=_DRAINING_RETRY_MS,
    )


def unknown_session(session_id: bytes) -> UnknownSession:
    return UnknownSession(
        f"No session has the id {id_to_text(session_id)}.",
        hint="It was closed, or it expired: open a new one.",
    )
