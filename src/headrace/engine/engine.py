"""The engine: commands in, records and effects out; records in, state out.

```
            begin_turn(now_ms)
command ──▶ run ──▶ decide ──▶ emit(record) ──▶ evolve      (live: the leader)
            dispatch, take_turn ──▶ records, effects
record  ──▶ apply ─────────────────────────────▶ evolve      (replay: everybody)
```

It reads no clock and draws no random number: the turn's time and one seed a command are
all that comes from outside. All refusals come before the first record of a command.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from headrace.engine import (
    attending,
    changing,
    claiming,
    enqueueing,
    explain,
    leasing,
    maintaining,
    reading,
)
from headrace.engine.dispatching import dispatch
from headrace.engine.evolve import evolve
from headrace.engine.invariants import check_state
from headrace.engine.job import FLAG_STARTED, LEASED, Job
from headrace.engine.snapshot import Loader, SnapshotWalk, rows_of
from headrace.engine.state import EngineState
from headrace.engine.turn import Turn
from headrace.model import commands
from headrace.model.commands import Command, EndedLease
from headrace.model.effects import Effect, JobEnded
from headrace.model.errors import InvariantViolated, Unsupported
from headrace.model.options import EngineOptions
from headrace.model.queue import DURABILITY_GROUP
from headrace.model.records import EpochStarted, Record
from headrace.model.replies import JobView, Reply
from headrace.model.rows import AnyRow

_DECISIONS: dict[type[Command], Callable[[Turn, Any, int], Reply]] = {
    commands.Enqueue: enqueueing.enqueue,
    commands.Claim: claiming.claim,
    commands.Ack: leasing.ack,
    commands.Nack: leasing.nack,
    commands.Release: leasing.release,
    commands.Extend: leasing.extend,
    commands.Progress: leasing.progress,
    commands.LogLines: leasing.log_lines,
    commands.Expire: leasing.expire,
    commands.MarkStarted: leasing.mark_started,
    commands.Cancel: changing.cancel,
    commands.Reschedule: changing.reschedule,
    commands.ChangePriority: changing.change_priority,
    commands.Revive: changing.revive,
    commands.Delete: changing.delete,
    commands.Purge: changing.purge,
    commands.ConfigureQueue: changing.configure_queue,
    commands.PauseQueue: changing.pause_queue,
    commands.ResumeQueue: changing.resume_queue,
    commands.OpenSession: attending.open_session,
    commands.SetCredit: attending.set_credit,
    commands.ResumeSession: attending.resume_session,
    commands.CloseSession: attending.close_session,
    commands.GetJob: reading.get_job,
    commands.ListJobs: reading.list_jobs,
    commands.GetQueue: reading.get_queue,
    commands.ListQueues: reading.list_queues,
    commands.ListSessions: reading.list_sessions,
    commands.ExplainJob: explain.explain_job,
    commands.Maintain: maintaining.maintain,
}
"""Commands that the engine decides; the others belong to the runtime."""


class Lease(msgspec.Struct, frozen=True, gc=False):
    """A live lease, as whoever watches its time needs to know it."""

    job_id: bytes
    token: int
    session_id: bytes
    """`` for a client without a session."""
    timeout_ms: int
    lease_ms: int
    """Of a single-job lease; 0 when the session's heartbeat renews it."""
    started: bool


class Engine:
    """One shard's jobs, queues, sessions and keys."""

    def __init__(self, options: EngineOptions | None = None) -> None:
        self._options = options or EngineOptions()
        self.state = EngineState(self._options)
        self._turn = Turn(self.state)
        self._loader: Loader | None = None

    @property
    def last_index(self) -> int:
        """Index of the newest record, emitted or applied."""
        return self.state.index

    @property
    def now_ms(self) -> int:
        """Log time of the turn under way."""
        return self._turn.now_ms

    # --- the live path

    def begin_turn(self, now_ms: int) -> None:
        """Commands from here on happen at `now_ms`; log time never goes back."""
        self._turn.now_ms = max(now_ms, self.state.now_ms)

    def run(self, command: Command, seed: int = 0) -> Reply:
        """The command is decided and its records are in the turn.

        Raises: `ClientError` or `Unavailable` when it is refused; nothing changed then.
        Any other exception is a bug: records may be in the turn, and the node must stop.
        """
        decide = _DECISIONS.get(type(command))
        if decide is None:
            raise Unsupported(f"The engine does not decide {type(command).__name__}.")
        reply = decide(self._turn, command, seed)
        if self._options.verify:
            check_state(self.state)
        return reply

    def start_epoch(self, number: int, nonce: bytes, node: str, now_ms: int) -> None:
        """The first record of a leader; only then does it decide anything."""
        self._turn.now_ms = max(now_ms, self.state.now_ms)
        self._turn.records.append(
            record := EpochStarted(number, nonce, node, now_ms=self._turn.now_ms)
        )
        evolve(self.state, self.state.index + 1, record)

    def dispatch(self) -> bool:
        """Sessions with room hold what is ready for them; True when there is more to do.

        Also shortens rings that this turn has filled. To be called at the end of a turn.
        """
        more = dispatch(self._turn)
        return maintaining.prune_full_rings(self._turn) or more

    @property
    def turn_record_count(self) -> int:
        """Records that the turn has emitted so far."""
        return len(self._turn.records)

    def take_turn(self) -> tuple[list[Record], list[Effect]]:
        """What the turn has emitted and owes; the next turn begins empty."""
        turn = self._turn
        records, turn.records = turn.records, []
        effects, turn.effects = turn.effects, []
        ended = self.state.ended_now
        if ended:
            effects += [JobEnded(job_id) for job_id in ended]
            self.state.ended_now = []
        if self._options.verify:
            check_state(self.state)
        return records, effects

    def next_due_ms(self) -> int | None:
        """Log time at which `Maintain` has something to do; None: nothing is on its way."""
        return maintaining.next_due_ms(self.state)

    def durability_of(self, command: Command) -> int:
        """The strictest durability among the queues that the command touches."""
        state = self.state
        if isinstance(command, commands.Enqueue):
            default = state.options.default_queue
            found = [
                default if (queue := state.queues.get(spec.queue)) is None else queue.settings
                for spec in command.specs
            ]
            return max((settings.durability for settings in found), default=DURABILITY_GROUP)
        if isinstance(command, commands.Ack):
            return self._durability_of_ack(command)
        return DURABILITY_GROUP

    def _durability_of_ack(self, command: commands.Ack) -> int:
        """Asked before the ack runs, while its jobs are still live.

        One that is not may have ended in this very commit, in a queue that wants it durable.
        """
        state = self.state
        if not state.configured_count:
            return state.options.default_queue.durability
        found: set[int] = set()
        for job_id, _, _ in command.results:
            job = state.jobs.get(job_id) if job_id else None
            if job is None:
                found.add(DURABILITY_GROUP)
            else:
                found.add(state.queues[job.spec.queue].settings.durability)
        return max(found, default=DURABILITY_GROUP)

    def has_ready(self, queues: tuple[str, ...], kinds: tuple[str, ...]) -> bool:
        """Whether a `Claim` of these would find a job now."""
        return claiming.has_ready(self._turn, queues, kinds)

    # --- volatile facts of the leader

    def set_connected(self, session_id: bytes, connected: bool) -> None:
        """Whether jobs can be pushed to this session; an unknown one is passed over."""
        session = self.state.sessions.get(session_id)
        if session is None:
            return
        session.connected = connected
        if connected:
            self.state.hungry[session.number] = session

    def holds(self, job_id: bytes, token: int) -> bool:
        """Whether this lease is live."""
        return self._turn.held(job_id, token) is not None

    def lease_of(self, job_id: bytes) -> Lease | None:
        """The live lease of this job, if there is one."""
        job = self._turn.live(job_id)
        return None if job is None or job.state != LEASED else self._lease(job)

    def _lease(self, job: Job) -> Lease:
        session = self.state.session_of(job)
        return Lease(
            job.job_id,
            job.token,
            b"" if session is None else session.session_id,
            job.spec.timeout_ms,
            job.lease_ms,
            bool(job.flags & FLAG_STARTED),
        )

    def leases_of(self, session_id: bytes) -> list[EndedLease]:
        """All that the session holds, with what the log knows of starts."""
        session = self.state.sessions.get(session_id)
        if session is None:
            return []
        return [
            EndedLease(job.job_id, job.token, bool(job.flags & FLAG_STARTED))
            for job in session.leases.values()
        ]

    def all_leases(self) -> Iterator[Lease]:
        """Every live lease; for whoever begins to watch them after a recovery."""
        for _, job in self.state.jobs.items():
            if job.state == LEASED:
                yield self._lease(job)

    def session_ids(self) -> list[bytes]:
        return list(self.state.sessions)

    def session_lease_ms(self, session_id: bytes) -> int:
        """0 for an unknown session."""
        session = self.state.sessions.get(session_id)
        return 0 if session is None else session.lease_ms

    def job_view(self, job_id: bytes, with_payload: bool = True) -> JobView:
        """Raises: `UnknownJob`."""
        return reading.job_view(self._turn, job_id, with_payload)

    def end_view(self, job_id: bytes) -> JobView | None:
        """See `reading.end_view`. Raises: `UnknownJob`, `BadRequest`."""
        return reading.end_view(self._turn, job_id)

    def gauges(self) -> dict[str, float]:
        """Totals over all queues, under the names that metrics use."""
        state = self.state
        found: dict[str, float] = {
            "headrace_queues": len(state.queues),
            "headrace_sessions": len(state.sessions),
            "headrace_jobs": state.job_count,
            "headrace_payload_bytes": state.payload_bytes,
            "headrace_finished_bytes": state.finished_bytes,
            "headrace_ids_remembered": len(state.remembered),
            "headrace_keys": len(state.keys),
        }
        for job_state in (1, 2, 3, 4):
            name = f"headrace_jobs_{_STATE_WORDS[job_state]}"
            found[name] = sum(queue.counts[job_state] for queue in state.queues.values())
        for ring_no, word in enumerate(("succeeded", "dead")):
            rings = (queue.rings[ring_no].count for queue in state.queues.values())
            found[f"headrace_jobs_kept_{word}"] = sum(rings)
        return found

    # --- replay and snapshots

    def apply(self, index: int, record: Record) -> None:
        """The record with this index has happened.

        Raises: `InvariantViolated` when `index` is not the next one, or the record could
        not have happened.
        """
        if index != self.state.index + 1:
            raise InvariantViolated(
                f"record {index} follows record {self.state.index}: one is missing or twice there"
            )
        try:
            evolve(self.state, index, record)
        except _UNFIT as error:
            raise _does_not_fit(f"record {index} ({type(record).__name__})", error) from error
        self.state.ended_now.clear()
        self._turn.now_ms = self.state.now_ms

    def begin_snapshot(self) -> SnapshotWalk:
        """A walk over the state as it stands at `last_index`; at most one at a time."""
        return SnapshotWalk(self.state)

    def load_rows(self, rows: Iterable[AnyRow]) -> None:
        """Rows of one snapshot, in order; `finish_load` after the last.

        Raises: `InvariantViolated` when a row cannot be part of a state.
        """
        if self._loader is None:
            self._loader = Loader(self.state)
        try:
            self._loader.load(rows)
        except _UNFIT as error:
            raise _does_not_fit("a row of the snapshot", error) from error

    def finish_load(self) -> None:
        """The state is that of the snapshot, ready for the records behind it.

        Raises: `InvariantViolated` when the rows do not make a state.
        """
        if self._loader is not None:
            try:
                self._loader.finish()
            except _UNFIT as error:
                raise _does_not_fit("the snapshot", error) from error
            self._loader = None
        self._turn.now_ms = self.state.now_ms

    def check_state(self) -> None:
        """Raises: `InvariantViolated`."""
        check_state(self.state)

    def digest(self) -> str:
        """A hex digest of the whole state; equal states have equal digests.

        The sum of the digests of a snapshot's rows, so that their order does not matter.
        A snapshot under way is not disturbed.
        """
        total = 0
        for row in rows_of(self.state):
            encoded = msgspec.msgpack.encode(row)
            total += int.from_bytes(hashlib.blake2b(encoded, digest_size=16).digest(), "big")
        return f"{total % (1 << 128):032x}"


_UNFIT = (LookupError, ValueError, TypeError, ArithmeticError, AttributeError)
"""What a transition raises over something that could not have happened: well-formed bytes
say more than a log or a snapshot of ours ever does."""


def _does_not_fit(what: str, error: Exception) -> InvariantViolated:
    return InvariantViolated(f"{what} does not fit the state before it: {error!r}")


_STATE_WORDS = {1: "scheduled", 2: "blocked", 3: "ready", 4: "leased"}
