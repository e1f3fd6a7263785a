"""The log, read by somebody who has never heard of the engine: what befell each job.

A deliberately plain account: one dict of jobs, no lanes, heaps or rings. It judges nothing
and refuses nothing, so that whatever a log claims can be laid before the checkers; a record
that could not have happened leaves a step whose `was` shows it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from headrace.model import records
from headrace.model.job import JobExtra, JobSpec, RetryPolicy, State
from headrace.model.queue import QueueSettings
from headrace.sim.final import Final
from headrace.sim.history import History, Recorded

ABSENT = 0
"""No job has this id."""
SCHEDULED = int(State.SCHEDULED)
READY = int(State.READY)
LEASED = int(State.LEASED)
SUCCEEDED = int(State.SUCCEEDED)
DEAD = int(State.DEAD)
CANCELLED = int(State.CANCELLED)
DELETED = 8
"""Its id may still be remembered."""
PRUNED = 9
"""Retention has removed it; its id may still be remembered."""

WAITING = frozenset({SCHEDULED, int(State.BLOCKED), READY})
FINAL = frozenset({SUCCEEDED, DEAD, CANCELLED})
LIVE = WAITING | {LEASED}
KEPT = LIVE | FINAL

_WORDS = {ABSENT: "unknown", DELETED: "deleted", PRUNED: "pruned"}
NO_EXTRA = JobExtra()
_INDEX = attrgetter("index")


def word_of(state: int) -> str:
    return _WORDS.get(state) or State(state).word


class JobStory:
    """One id: where it stands at the end of the log, and every step that led there."""

    __slots__ = (
        "attempt",
        "cancel_requested",
        "crash_count",
        "ended_as",
        "ended_at_ms",
        "extra",
        "job_id",
        "number",
        "payload",
        "priority",
        "return_count",
        "run_at_ms",
        "session_id",
        "snooze_count",
        "spec",
        "started",
        "state",
        "steps",
        "token",
    )

    def __init__(self, job_id: bytes) -> None:
        self.job_id = job_id
        self.steps: list[Step] = []
        self.state = ABSENT
        self.spec = JobSpec("", "")
        self.payload = b""
        self.extra = NO_EXTRA
        self.token = 0
        """Of its newest lease, live or not."""
        self.ended_as = ABSENT
        """The newest final state, also when it is not kept any more."""
        self.ended_at_ms = 0
        self.session_id = b""
        self.begin(0, 0)

    def begin(self, priority: int, run_at_ms: int) -> None:
        """Enqueued or revived: nothing has been tried yet."""
        self.priority = priority
        self.run_at_ms = run_at_ms
        self.number = 0
        self.attempt = 0
        """Claims charged so far."""
        self.started = False
        self.cancel_requested = False
        self.snooze_count = 0
        self.return_count = 0
        self.crash_count = 0

    def at(self, index: int) -> Step | None:
        """The newest step up to this index; None: nobody had heard of it."""
        place = bisect_right(self.steps, index, key=_INDEX)
        return self.steps[place - 1] if place else None

    def state_at(self, index: int) -> int:
        step = self.at(index)
        return ABSENT if step is None else step.to

    def after(self, index: int) -> list[Step]:
        """Its steps behind this index."""
        return self.steps[bisect_right(self.steps, index, key=_INDEX) :]


class Step:
    """One record did one thing to one job. Fields show the job as it stands after it."""

    __slots__ = (
        "attempt",
        "cancel_requested",
        "ended_at_ms",
        "event",
        "extra",
        "fate",
        "holder",
        "index",
        "job",
        "named",
        "now_ms",
        "number",
        "paused",
        "payload",
        "policy",
        "priority",
        "reason",
        "result",
        "run_at_ms",
        "session_id",
        "spec",
        "start_by_ms",
        "started",
        "to",
        "token",
        "verb",
        "was",
        "was_token",
    )

    def __init__(self, event: Recorded, now_ms: int, job: JobStory, verb: str, named: int) -> None:
        self.event = event
        self.index = event.index
        self.now_ms = now_ms
        """Log time."""
        self.job = job
        self.verb = verb
        self.named = named
        """The token that the record names; 0 when it names none."""
        self.was = job.state
        self.was_token = job.token
        self.cancel_requested = job.cancel_requested
        """Before it."""
        self.ended_at_ms = job.ended_at_ms
        """Log time of its newest end before it; 0 when there was none."""
        self.extra = job.extra
        """Before it; of an enqueue, what came with it."""
        bound = not (job.attempt or job.snooze_count)
        self.start_by_ms = job.extra.start_by_ms if bound else 0
        """What bound it before this step: 0 when nothing did, or nothing any more."""
        self.session_id = job.session_id
        """Of the lease that was live before it; of a claim, the new holder."""
        self.started = False
        """Of an expiry: its holder had started it."""
        self.fate = -1
        self.reason = ""
        self.result: bytes | None = None
        """Of an ack."""
        self.policy: RetryPolicy | None = None
        """In force when an attempt ended."""
        self.paused = False
        """Of a claim: its queue was."""
        self.holder: records.SessionOpened | None = None
        """Of a claim: the session as it was opened last."""

    def close(self, to: int) -> None:
        """The job has been changed: this is where it stands now."""
        job = self.job
        job.state = self.to = to
        self.token = job.token
        self.attempt = job.attempt
        self.number = job.number
        self.priority = job.priority
        self.run_at_ms = job.run_at_ms
        self.spec = job.spec
        self.payload = job.payload
        job.steps.append(self)

    def __repr__(self) -> str:
        return f"<{self.index} {self.verb}: {word_of(self.was)} -> {word_of(self.to)}>"


class Ledger:
    """Everything that the log says, job by job and in order."""

    def __init__(self, history: History, final: Final) -> None:
        seen = [event for event in history.events if type(event) is Recorded]
        self.records: list[Recorded] = seen or list(final.records)
        self.whole = bool(self.records) and self.records[0].index == 1
        """It begins with the first record there ever was, so that nothing is unknown."""
        self.stories: dict[bytes, JobStory] = {}
        self.steps: list[Step] = []
        self.claims: dict[int, Recorded] = {}
        """By token."""
        self.epochs: list[Recorded] = []
        self.sessions: dict[bytes, records.SessionOpened] = {}
        """Ever opened."""
        self.settings: dict[str, QueueSettings] = {}
        """Of configured queues, at the end."""
        self.ended_sessions: set[bytes] = set()
        self.ends_of_sessions: list[Recorded] = []
        self.now_ms = 0
        self.configured: dict[str, list[Recorded]] = {}
        """By queue, what has set it."""
        self.default_queue = final.options.default_queue
        self._scheduled: dict[bytes, JobStory] = {}
        self._rings: dict[tuple[str, bool], dict[bytes, JobStory]] = {}
        self._number = 0
        self.times: list[tuple[int, int]] = []
        """(index, log time from there on)."""
        for event in self.records:
            note = _NOTES.get(type(event.record))
            if note is not None:
                note(self, event, event.record)

    def story(self, job_id: bytes) -> JobStory:
        found = self.stories.get(job_id)
        if found is None:
            found = self.stories[job_id] = JobStory(job_id)
        return found

    def state_at(self, job_id: bytes, index: int) -> int:
        story = self.stories.get(job_id)
        return ABSENT if story is None else story.state_at(index)

    def now_at(self, index: int) -> int:
        """Log time once this record had happened."""
        place = bisect_right(self.times, (index, 1 << 62))
        return self.times[place - 1][1] if place else 0

    def settings_of(self, queue: str) -> QueueSettings:
        """At the end."""
        return self.settings.get(queue, self.default_queue)

    def seen_ns(self, index: int) -> int | None:
        """When the record with this index was durable; None when it is not in the log."""
        place = index - (self.records[0].index if self.records else 0)
        if not 0 <= place < len(self.records):
            return None
        return self.records[place].at_ns

    # --- what steps share

    def _step(self, event: Recorded, job_id: bytes, verb: str, named: int = 0) -> Step:
        step = Step(event, self.now_ms, self.story(job_id), verb, named)
        self.steps.append(step)
        if step.was == SCHEDULED:
            self._scheduled.pop(job_id, None)
        return step

    def _take_number(self, job: JobStory) -> None:
        self._number += 1
        job.number = self._number

    def _wait(self, step: Step, run_at_ms: int, *, keeps_place: bool) -> None:
        job = step.job
        job.run_at_ms = run_at_ms
        if run_at_ms or not keeps_place:
            self._take_number(job)
        job.started = False
        if run_at_ms:
            self._scheduled[job.job_id] = job
        step.close(SCHEDULED if run_at_ms else READY)

    def _finish(self, step: Step, state: int) -> None:
        job = step.job
        job.ended_as, job.ended_at_ms = state, self.now_ms
        self._rings.setdefault((job.spec.queue, state == DEAD), {})[job.job_id] = job
        step.close(state)

    def _leave_ring(self, job: JobStory) -> None:
        self._rings.get((job.spec.queue, job.ended_as == DEAD), {}).pop(job.job_id, None)

    def _policy(self, job: JobStory) -> RetryPolicy:
        return job.spec.retry or self.settings_of(job.spec.queue).retry

    def _end_attempt(self, step: Step, fate: int, run_at_ms: int, *, keeps_place: bool) -> None:
        step.fate = fate
        if fate == records.FATE_DEAD:
            self._finish(step, DEAD)
        elif fate == records.FATE_CANCELLED:
            self._finish(step, CANCELLED)
        else:
            self._wait(step, run_at_ms, keeps_place=keeps_place)

    # --- records

    def _epoch_started(self, event: Recorded, record: records.EpochStarted) -> None:
        self.epochs.append(event)
        self._pass_time(event.index, record.now_ms)

    def _pass_time(self, index: int, now_ms: int) -> None:
        self.now_ms = max(self.now_ms, now_ms)
        self.times.append((index, self.now_ms))

    def _time_passed(self, event: Recorded, record: records.TimePassed) -> None:
        self._pass_time(event.index, record.now_ms)
        for _ in range(record.promote):
            if not self._scheduled:
                break
            job = min(self._scheduled.values(), key=_due)
            step = self._step(event, job.job_id, "promote")
            self._take_number(job)
            step.close(READY)

    def _queue_configured(self, event: Recorded, record: records.QueueConfigured) -> None:
        self.settings[record.queue] = record.settings
        self.configured.setdefault(record.queue, []).append(event)

    def _session_opened(self, event: Recorded, record: records.SessionOpened) -> None:
        self.sessions[record.session_id] = record
        self.ended_sessions.discard(record.session_id)

    def _session_closed(self, event: Recorded, record: records.SessionClosed) -> None:
        self.ended_sessions.add(record.session_id)
        self.ends_of_sessions.append(event)

    def _jobs_enqueued(self, event: Recorded, record: records.JobsEnqueued) -> None:
        for new in record.jobs:
            step = self._step(event, new.job_id, "enqueue")
            job = step.job
            job.spec, job.payload = record.spec, new.payload
            job.extra = step.extra = new.extra or NO_EXTRA
            job.token = 0
            job.begin(new.priority, new.run_at_ms)
            self._wait(step, new.run_at_ms, keeps_place=False)

    def _jobs_claimed(self, event: Recorded, record: records.JobsClaimed) -> None:
        self.claims[event.index] = event
        for job_id in record.job_ids:
            step = self._step(event, job_id, "claim", event.index)
            job = step.job
            job.token = event.index
            job.session_id = step.session_id = record.session_id
            step.holder = self.sessions.get(record.session_id)
            job.started = job.cancel_requested = False
            settings = self.settings.get(job.spec.queue)
            step.paused = settings is not None and settings.paused
            step.close(LEASED)

    def _jobs_started(self, event: Recorded, record: records.JobsStarted) -> None:
        for job_id, token in record.leases:
            step = self._step(event, job_id, "start", token)
            step.job.started = True
            step.close(step.was)

    def _jobs_succeeded(self, event: Recorded, record: records.JobsSucceeded) -> None:
        for job_id, token, result in record.results:
            step = self._step(event, job_id, "ack", token)
            step.result = result
            step.job.attempt += 1
            step.policy = self._policy(step.job)
            self._finish(step, SUCCEEDED)

    def _job_failed(self, event: Recorded, record: records.JobFailed) -> None:
        step = self._step(event, record.job_id, "nack", record.token)
        step.job.attempt += 1
        step.policy = self._policy(step.job)
        step.reason = record.reason
        self._end_attempt(step, record.fate, record.run_at_ms, keeps_place=False)

    def _jobs_released(self, event: Recorded, record: records.JobsReleased) -> None:
        for released in record.jobs:
            step = self._step(event, released.job_id, "release", released.token)
            step.started = released.snoozed
            step.job.snooze_count += released.snoozed
            self._wait(step, released.run_at_ms, keeps_place=not released.snoozed)

    def _leases_expired(self, event: Recorded, record: records.LeasesExpired) -> None:
        for lease in record.leases:
            step = self._step(event, lease.job_id, "expire", lease.token)
            job = step.job
            step.started = lease.started
            step.reason = lease.reason or record.reason
            if lease.started:
                job.attempt += 1
                job.crash_count += record.reason == "worker_lost"
                step.policy = self._policy(job)
            else:
                job.return_count += 1
            self._end_attempt(step, lease.fate, lease.run_at_ms, keeps_place=not lease.started)

    def _jobs_cancelled(self, event: Recorded, record: records.JobsCancelled) -> None:
        for job_id, token in record.leases:
            step = self._step(event, job_id, "cancel", token)
            step.reason = record.reason
            self._finish(step, CANCELLED)

    def _cancel_requested(self, event: Recorded, record: records.CancelRequested) -> None:
        step = self._step(event, record.job_id, "cancel_requested", record.token)
        step.job.cancel_requested = True
        step.close(step.was)

    def _job_rescheduled(self, event: Recorded, record: records.JobRescheduled) -> None:
        step = self._step(event, record.job_id, "reschedule")
        self._wait(step, record.run_at_ms, keeps_place=False)

    def _priority_changed(self, event: Recorded, record: records.PriorityChanged) -> None:
        step = self._step(event, record.job_id, "priority")
        step.job.priority = record.priority
        if step.was == SCHEDULED:
            self._scheduled[record.job_id] = step.job
        step.close(step.was)

    def _job_revived(self, event: Recorded, record: records.JobRevived) -> None:
        step = self._step(event, record.job_id, "revive")
        job = step.job
        self._leave_ring(job)
        job.begin(job.priority, record.run_at_ms)
        if job.extra.start_by_ms and job.extra.start_by_ms <= self.now_ms:
            job.extra = _without_start_by(job.extra)
        self._wait(step, record.run_at_ms, keeps_place=False)

    def _jobs_deleted(self, event: Recorded, record: records.JobsDeleted) -> None:
        for job_id in record.job_ids:
            step = self._step(event, job_id, "delete")
            job = step.job
            if step.was in FINAL:
                self._leave_ring(job)
            else:
                job.ended_as, job.ended_at_ms = CANCELLED, self.now_ms
            step.close(DELETED)

    def _finished_pruned(self, event: Recorded, record: records.FinishedPruned) -> None:
        ring = self._rings.get((record.queue, record.ring == records.RING_DEAD), {})
        for job_id in list(ring)[: record.count]:
            del ring[job_id]
            self._step(event, job_id, "prune").close(PRUNED)


def _due(job: JobStory) -> tuple[int, int]:
    return job.run_at_ms, job.number


def _without_start_by(extra: JobExtra) -> JobExtra:
    return JobExtra(extra.key, extra.key_window_ms, 0, extra.tags, extra.headers)


_Note = Callable[[Ledger, Recorded, Any], None]
_NOTES: dict[type[records.Record], _Note] = {
    records.EpochStarted: Ledger._epoch_started,
    records.TimePassed: Ledger._time_passed,
    records.QueueConfigured: Ledger._queue_configured,
    records.SessionOpened: Ledger._session_opened,
    records.SessionClosed: Ledger._session_closed,
    records.JobsEnqueued: Ledger._jobs_enqueued,
    records.JobsClaimed: Ledger._jobs_claimed,
    records.JobsStarted: Ledger._jobs_started,
    records.JobsSucceeded: Ledger._jobs_succeeded,
    records.JobFailed: Ledger._job_failed,
    records.JobsReleased: Ledger._jobs_released,
    records.LeasesExpired: Ledger._leases_expired,
    records.JobsCancelled: Ledger._jobs_cancelled,
    records.CancelRequested: Ledger._cancel_requested,
    records.JobRescheduled: Ledger._job_rescheduled,
    records.PriorityChanged: Ledger._priority_changed,
    records.JobRevived: Ledger._job_revived,
    records.JobsDeleted: Ledger._jobs_deleted,
    records.FinishedPruned: Ledger._finished_pruned,
}
"""What the others say (progress, log lines, forgotten ids and keys) is no step of a job."""
