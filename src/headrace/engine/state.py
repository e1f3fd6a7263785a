"""The state of the engine, and the small transitions that are all that ever changes it.

The live path and replay go through the same transitions; `evolve` is their only caller.
A transition decides nothing: the record says which job, where to, and when.
"""

from __future__ import annotations

import msgspec

from headrace.engine import lifecycle
from headrace.engine.finished import (
    Ended,
    RingEntry,
    live_entries,
    pack,
    unpack,
)
from headrace.engine.job import (
    CANCELLED,
    DEAD,
    GONE,
    LEASED,
    READY,
    SCHEDULED,
    SUCCEEDED,
    Job,
    Spec,
    cold_of,
    decode_cold,
    encode_cold,
    held_bytes,
)
from headrace.engine.keys import Keys, digest_of, scope_of
from headrace.engine.lanes import KindLanes
from headrace.engine.lifecycle import Rule, illegal
from headrace.engine.queues import (
    TOTAL_CANCELLED,
    TOTAL_DEAD,
    TOTAL_ENQUEUED,
    TOTAL_SUCCEEDED,
    Queue,
)
from headrace.engine.remembered import Remembered
from headrace.engine.sessions import Session
from headrace.engine.start_by import StartBys
from headrace.engine.table import Table
from headrace.engine.timers import Timers
from headrace.model import limits
from headrace.model.errors import InvariantViolated
from headrace.model.ids import id_to_text
from headrace.model.job import JobExtra, JobSpec
from headrace.model.options import EngineOptions
from headrace.model.queue import QueueSettings
from headrace.model.records import RING_DEAD, EnqueuedJob
from headrace.model.rows import Cold, Finished, SessionRow

EVENT_WORDS = (
    "",
    "leased",
    "failed",
    "released",
    "snoozed",
    "worker_lost",
    "timeout",
    "never_started",
    "revived",
    "rescheduled",
    "cancel_requested",
    "closed",
)
"""Events of a job's history, by number; numbers are part of the snapshot format."""


EVENT_LEASED = EVENT_WORDS.index("leased")
EVENT_FAILED = EVENT_WORDS.index("failed")

_TOTAL_OF_STATE = {
    SUCCEEDED: TOTAL_SUCCEEDED,
    DEAD: TOTAL_DEAD,
    CANCELLED: TOTAL_CANCELLED,
}


def event_number(word: str) -> int:
    return EVENT_WORDS.index(word) if word in EVENT_WORDS else EVENT_WORDS.index("released")


def _is_scheduled(job: Job, number: int) -> bool:
    return job.state == SCHEDULED and job.number == number


class EngineState:
    """Everything that records have built up, with the indexes derived from it."""

    def __init__(self, options: EngineOptions) -> None:
        self.options = options
        self.index = 0
        """Index of the newest record."""
        self.now_ms = 0
        """Log time."""
        self.epoch_number = 0
        self.epoch_started_ms = 0
        """Log time of the newest start of a node; of no use to replay, and in no snapshot."""
        self.next_number = 1
        self.next_session_no = 1
        self.jobs: Table[Job] = Table()
        self.ended: Ended = Table()
        self.next_ended_no = 0
        """Order of ends."""
        self.remembered = Remembered()
        self.keys = Keys()
        self.queues: dict[str, Queue] = {}
        self.configured_count = 0
        """Queues with settings of their own."""
        self.lanes: list[KindLanes] = []
        self.specs: dict[JobSpec, Spec] = {}
        self.sessions: dict[bytes, Session] = {}
        self.sessions_by_no: dict[int, Session] = {}
        self.scheduled = Timers(_is_scheduled)
        self.start_by = StartBys(self.jobs)
        self.job_count = 0
        """Jobs that are not final."""
        self.payload_bytes = 0
        self.finished_bytes = 0
        self.leased_alone = 0
        """Jobs leased by clients without a session."""
        self.fed: list[KindLanes] = []
        """Lanes that got a job since the last dispatch, and have an interested session."""
        self.hungry: dict[int, Session] = {}
        """Sessions that may have room and something to claim, in turn."""
        self.ended_now: list[bytes] = []
        """Jobs that ended since the last turn was taken."""
        self.next_age_ms: int | None = None
        """No final job reaches the age limit of its queue before this."""
        self.full_rings: dict[tuple[str, int], None] = {}
        """Rings that may exceed the retention of their queue."""

    # --- queues, lanes, specs

    def queue(self, name: str) -> Queue:
        """The queue of that name; queues appear when they are first used."""
        found = self.queues.get(name)
        if found is None:
            found = self.queues[name] = Queue(name, self.options.default_queue)
        return found

    def configure(self, name: str, settings: QueueSettings) -> Queue:
        queue = self.queue(name)
        self.configured_count += queue.configured is None
        queue.configured = settings
        return queue

    def lanes_of(self, queue_name: str, kind: str) -> KindLanes:
        queue = self.queue(queue_name)
        found = queue.kinds.get(kind)
        if found is None:
            found = queue.kinds[kind] = KindLanes(queue_name, kind)
            found.number = len(self.lanes)
            self.lanes.append(found)
        return found

    def spec(self, wire: JobSpec) -> Spec:
        found = self.specs.get(wire)
        if found is None:
            lanes = self.lanes_of(wire.queue, wire.kind)
            found = Spec(wire, lanes.queue, lanes.kind, wire.timeout_ms, lanes.number)
            self.specs[wire] = found
        return found

    def _leave_spec(self, spec: Spec) -> None:
        spec.job_count -= 1
        if spec.job_count == 0:
            del self.specs[spec.wire]

    # --- the mover

    def move(self, job: Job, rule: Rule, to_state: int) -> None:
        """The one place where a job changes its state.

        Raises: `InvariantViolated` when the lifecycle table does not grant it.
        """
        self._count_move(job, rule, to_state)
        if job.state != LEASED:
            self.unplace(job)
        job.state = to_state
        if to_state <= READY:
            self.place(job)

    def _count_move(self, job: Job, rule: Rule, to_state: int) -> None:
        if not rule.moves[job.state] or to_state not in rule.targets:
            raise illegal(job.state, rule.verb, job.job_id)
        counts = self.queues[job.spec.queue].counts
        counts[job.state] -= 1
        counts[to_state] += 1

    def unplace(self, job: Job) -> None:
        """Out of the lane or timer that it stands in."""
        state = job.state
        if state == READY:
            self.lanes[job.spec.lanes_no].leave(job)
        elif state == SCHEDULED:
            job.state = GONE
            self.scheduled.leave()

    def place(self, job: Job) -> None:
        if job.state == READY:
            lanes = self.lanes[job.spec.lanes_no]
            lanes.add(job)
            if lanes.interested and not lanes.fed:
                lanes.fed = True
                self.fed.append(lanes)
        elif job.state == SCHEDULED:
            self.scheduled.add(job.run_at_ms, job.number, job)

    def job(self, job_id: bytes) -> Job:
        """The job, about to be changed. Raises: `InvariantViolated` when there is none."""
        jobs = self.jobs
        found = jobs.shards[job_id[-1]].get(job_id)
        if found is None:
            raise InvariantViolated(f"record names job {id_to_text(job_id)}, which is not live")
        if jobs.walk is not None:
            jobs.walk.touch(job_id)
        return found

    def take_number(self) -> int:
        number = self.next_number
        self.next_number += 1
        return number

    # --- coming and going

    def add_jobs(self, spec: Spec, new_jobs: list[EnqueuedJob]) -> None:
        """Jobs are enqueued: ready, or scheduled when they have a time."""
        queue = self.queues[spec.queue]
        size_bytes = 0
        for new in new_jobs:
            job = Job(
                new.job_id,
                spec,
                new.payload,
                SCHEDULED if new.run_at_ms else READY,
                new.priority,
                self.next_number,
                self.now_ms,
                new.run_at_ms,
            )
            self.next_number += 1
            if new.extra is not None:
                self._add_extra(job, new.extra)
                size_bytes += len(job.cold or b"")
            self.jobs.put(job.job_id, job)
            queue.counts[job.state] += 1
            self.place(job)
            size_bytes += len(new.payload)
        self.count_payload(queue, size_bytes)
        spec.job_count += len(new_jobs)
        self.job_count += len(new_jobs)
        queue.totals[TOTAL_ENQUEUED] += len(new_jobs)

    def _add_extra(self, job: Job, extra: JobExtra) -> None:
        job.cold = encode_cold(Cold(extra=extra))
        if extra.key:
            scope = scope_of(job.spec.queue, job.spec.kind, extra.key)
            expires_at_ms = self.now_ms + extra.key_window_ms
            self.keys.take(scope, job.job_id, digest_of(job.payload), expires_at_ms)
        self.start_by.watch(job)

    def count_payload(self, queue: Queue, size_bytes: int) -> None:
        """So many bytes more are held by jobs of this queue that are not final."""
        queue.payload_bytes += size_bytes
        self.payload_bytes += size_bytes

    def free_key(self, queue: str, kind: str, cold: bytes | None, job_id: bytes) -> None:
        """A deleted job was never there: its key is free."""
        extra = None if cold is None else decode_cold(cold).extra
        if extra is not None and extra.key:
            self.keys.free(scope_of(queue, kind, extra.key), job_id)

    def remove_waiting(self, job: Job) -> None:
        """A waiting job is deleted; its id is remembered as cancelled."""
        if not lifecycle.DELETE.moves[job.state]:
            raise illegal(job.state, lifecycle.DELETE.verb, job.job_id)
        queue = self.queues[job.spec.queue]
        queue.counts[job.state] -= 1
        self.unplace(job)
        self.free_key(job.spec.queue, job.spec.kind, job.cold, job.job_id)
        self._forget_live(job, queue)
        self.remembered.add(job.job_id, job.token, CANCELLED, self.now_ms)
        self.ended_now.append(job.job_id)
        job.state = GONE

    def _forget_live(self, job: Job, queue: Queue) -> None:
        self.jobs.remove(job.job_id)
        self.job_count -= 1
        self.count_payload(queue, -held_bytes(job))
        self._leave_spec(job.spec)

    # --- leases

    def lease(self, job: Job, token: int, session: Session | None, lease_ms: int) -> None:
        self.move(job, lifecycle.CLAIM, LEASED)
        job.token = token
        job.leased_at_ms = self.now_ms
        job.flags = 0
        if session is None:
            job.session_no = 0
            job.lease_ms = lease_ms
            self.leased_alone += 1
        else:
            job.session_no = session.number
            session.leases[job.job_id] = job

    def end_lease(self, job: Job) -> None:
        """Its holder has room again. The job itself is moved by the caller."""
        if job.session_no:
            session = self.sessions_by_no[job.session_no]
            del session.leases[job.job_id]
            self.hungry[session.number] = session
        else:
            self.leased_alone -= 1
        job.lease_ms = 0

    def wait_again(self, job: Job, rule: Rule, run_at_ms: int, *, keeps_place: bool) -> None:
        """A leased job waits again: ready, or scheduled when there is a time."""
        self.end_lease(job)
        job.run_at_ms = run_at_ms
        if run_at_ms or not keeps_place:
            job.number = self.take_number()
        self.move(job, rule, SCHEDULED if run_at_ms else READY)
        self.start_by.watch(job)

    def reschedule(self, job: Job, rule: Rule, run_at_ms: int) -> None:
        """A waiting job is due at another time, or now."""
        to_state = SCHEDULED if run_at_ms else READY
        self._count_move(job, rule, to_state)
        moved = self._replace(job)
        moved.run_at_ms = run_at_ms
        moved.number = self.take_number()
        moved.state = to_state
        self.place(moved)

    def change_priority(self, job: Job, priority: int) -> None:
        """A ready job keeps its number; it stands where it would have stood by its number."""
        if job.state == READY:
            job = self._replace(job)
            job.priority = priority
            self.place(job)
        else:
            job.priority = priority

    def promote(self) -> None:
        """The first due job is ready, behind those that are ready already."""
        job = self.scheduled.first()
        self.jobs.touch(job.job_id)
        job.number = self.take_number()
        self.move(job, lifecycle.PROMOTE, READY)

    def _replace(self, job: Job) -> Job:
        """The waiting job leaves its lane or timer; a copy of it goes on, standing nowhere yet."""
        state = job.state
        self.unplace(job)
        job.state = state
        copy = job.successor()
        self.jobs.shards[job.job_id[-1]][job.job_id] = copy
        return copy

    # --- ends

    def finish(
        self,
        job: Job,
        rule: Rule,
        state: int,
        result: bytes | None = None,
        reason: str = "",
    ) -> None:
        """The job is final: packed, in its queue's ring, its id remembered."""
        if job.state == LEASED:
            self.end_lease(job)
        queue = self.queues[job.spec.queue]
        self.move(job, rule, state)
        queue.counts[state] -= 1
        job_id = job.job_id
        number = self.next_ended_no
        self.next_ended_no += 1
        packed = pack(
            Finished(
                job_id,
                job.spec.wire,
                job.payload,
                state,
                job.priority,
                job.attempt,
                job.token,
                job.enqueued_at_ms,
                job.leased_at_ms,
                self.now_ms,
                number,
                result,
                reason,
                job.cold,
            )
        )
        self._forget_live(job, queue)
        self.ended.put(job_id, packed)
        self.remembered.add(job_id, job.token, state, self.now_ms)
        self.keep(queue, RingEntry(job_id, packed, state, number, self.now_ms))
        self.ended_now.append(job_id)
        queue.totals[_TOTAL_OF_STATE[state]] += 1

    def keep(self, queue: Queue, entry: RingEntry) -> None:
        """Into the ring; noted when the ring may exceed its retention."""
        is_dead = entry.state == DEAD
        ring = queue.rings[is_dead]
        ring.add(entry)
        self.finished_bytes += len(entry.packed)
        settings = queue.settings
        count_max = settings.dead_count if is_dead else settings.succeeded_count
        bytes_max = settings.dead_bytes if is_dead else settings.succeeded_bytes
        if ring.count > count_max or ring.size_bytes > bytes_max:
            self.full_rings[queue.name, int(is_dead)] = None
        age_ms = settings.dead_age_ms if is_dead else settings.succeeded_age_ms
        due_ms = entry.ended_at_ms + age_ms
        if self.next_age_ms is None or due_ms < self.next_age_ms:
            self.next_age_ms = due_ms

    def note_age(self, queue: Queue, ring_no: int) -> None:
        """The oldest job of this ring sets when age is looked at again, if it comes first."""
        first = next(live_entries(queue.rings[ring_no], self.ended), None)
        if first is None:
            return
        settings = queue.settings
        age_ms = settings.dead_age_ms if ring_no == RING_DEAD else settings.succeeded_age_ms
        due_ms = first.ended_at_ms + age_ms
        if self.next_age_ms is None or due_ms < self.next_age_ms:
            self.next_age_ms = due_ms

    def prune(self, queue: Queue, ring_no: int, count: int) -> None:
        """The oldest `count` jobs of a ring are remembered by id at most."""
        ring = queue.rings[ring_no]
        for _ in range(count):
            entry = ring.take_oldest(self.ended)
            self.finished_bytes -= len(entry.packed)
            self.ended.remove(entry.job_id)

    def take_ended(self, job_id: bytes) -> Finished:
        """A kept final job leaves its ring, to be revived or deleted."""
        packed = self.ended.get(job_id)
        if packed is None:
            raise InvariantViolated(f"record names job {id_to_text(job_id)}, which is not kept")
        finished = unpack(packed)
        queue = self.queues[finished.spec.queue]
        self.ended.remove(job_id)
        queue.ring_of(finished.state).leave(packed, self.ended)
        self.finished_bytes -= len(packed)
        return finished

    def delete_ended(self, job_id: bytes) -> None:
        finished = self.take_ended(job_id)
        self.free_key(finished.spec.queue, finished.spec.kind, finished.cold, job_id)

    def revive(self, job_id: bytes, run_at_ms: int) -> None:
        """A final job waits again: attempt 0, errors kept, what counts towards death at 0."""
        finished = self.take_ended(job_id)
        if not lifecycle.REVIVE.moves[finished.state]:
            raise illegal(finished.state, lifecycle.REVIVE.verb, job_id)
        spec = self.spec(finished.spec)
        queue = self.queues[spec.queue]
        job = Job(
            job_id,
            spec,
            finished.payload,
            SCHEDULED if run_at_ms else READY,
            finished.priority,
            self.take_number(),
            finished.enqueued_at_ms,
            run_at_ms,
        )
        job.token = finished.token
        spec.job_count += 1
        self.job_count += 1
        queue.counts[job.state] += 1
        self.count_payload(queue, len(job.payload))
        self.jobs.put(job_id, job)
        self.place(job)
        self.note(job, "revived", self._cold_of_revived(finished))
        self.start_by.watch(job)

    def _cold_of_revived(self, finished: Finished) -> Cold:
        cold = decode_cold(finished.cold)
        cold.snooze_count = cold.return_count = cold.crash_count = 0
        cold.progress = None
        cold.cancel_reason = ""
        if cold.extra is not None and cold.extra.start_by_ms <= self.now_ms:
            cold.extra = msgspec.structs.replace(cold.extra, start_by_ms=0)
        return cold

    # --- rare fields

    def note(self, job: Job, word: str, cold: Cold | None = None) -> None:
        """One more line in the job's history; the newest are kept."""
        changed = cold_of(job) if cold is None else cold
        entry = (event_number(word), self.now_ms, job.attempt)
        changed.history = [*changed.history, entry][-limits.HISTORY_ENTRIES_MAX :]
        self.set_cold(job, changed)

    def set_cold(self, job: Job, cold: Cold) -> None:
        """Its rare fields are these, and counted: errors and log lines fill memory, too."""
        before = held_bytes(job)
        job.cold = encode_cold(cold)
        self.count_payload(self.queues[job.spec.queue], held_bytes(job) - before)

    # --- sessions

    def open_session(self, row: SessionRow) -> None:
        session = Session(row)
        self.sessions[session.session_id] = session
        self.sessions_by_no[session.number] = session
        for queue in session.queues:
            served = [self.lanes_of(queue, kind) for kind in session.kinds]
            session.served.append(served)
            for lanes in served:
                lanes.interested.append(session.number)

    def close_session(self, session_id: bytes) -> None:
        session = self.sessions.pop(session_id)
        if session.leases:
            raise InvariantViolated(f"session {session_id.hex()} closed while it holds leases")
        del self.sessions_by_no[session.number]
        self.hungry.pop(session.number, None)
        for served in session.served:
            for lanes in served:
                lanes.interested.remove(session.number)

    def session_of(self, job: Job) -> Session | None:
        return self.sessions_by_no[job.session_no] if job.session_no else None
