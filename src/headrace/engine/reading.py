"""Reads: jobs, queues and sessions as their readers see them. Bounded a turn."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from headrace.engine.finished import unpack
from headrace.engine.job import (
    FLAG_CANCEL_REQUESTED,
    FLAG_STARTED,
    LEASED,
    READY,
    SCHEDULED,
    Job,
    decode_cold,
)
from headrace.engine.leasing import retry_policy
from headrace.engine.queues import (
    TOTAL_CANCELLED,
    TOTAL_DEAD,
    TOTAL_ENQUEUED,
    TOTAL_FAILED,
    TOTAL_SUCCEEDED,
    Queue,
)
from headrace.engine.sessions import Session
from headrace.engine.state import EVENT_WORDS
from headrace.engine.turn import Turn, unknown_job
from headrace.engine.validate import check_range
from headrace.model import limits
from headrace.model.commands import GetJob, GetQueue, ListJobs, ListQueues, ListSessions
from headrace.model.errors import UnknownJob, UnknownQueue
from headrace.model.ids import id_to_text
from headrace.model.job import JobExtra, JobHistoryEntry, JobSpec, State
from headrace.model.records import RING_DEAD, RING_SUCCEEDED
from headrace.model.replies import (
    JobPage,
    JobReply,
    JobView,
    QueuePage,
    QueueReply,
    QueueView,
    SessionPage,
    SessionView,
)
from headrace.model.rows import Cold, Finished

_NO_EXTRA = JobExtra()


def get_job(turn: Turn, command: GetJob, seed: int) -> JobReply:
    return JobReply(job=job_view(turn, command.job_id, command.with_payload))


def job_view(turn: Turn, job_id: bytes, with_payload: bool) -> JobView:
    """Raises: `UnknownJob`, with another message when only the id is still known."""
    job = turn.live(job_id)
    if job is not None:
        return live_view(turn, job, with_payload)
    known = turn.remembered(job_id)
    if known is None:
        raise unknown_job(job_id)
    packed = turn.state.ended.get(job_id)
    if packed is None:
        word = State(known.state).word
        raise UnknownJob(
            f"Job {id_to_text(job_id)} has ended ({word}), and is not kept any more.",
            hint="Raise the retention of its queue to keep finished jobs longer.",
            state=word,
        )
    return finished_view(turn, unpack(packed), with_payload)


def end_view(turn: Turn, job_id: bytes) -> JobView | None:
    """The job as those are told of it who watch it: without payload; None while it is live.

    Of a job that has ended and is not kept any more: its id and state, the rest is empty.
    Raises: `UnknownJob`; `BadRequest` for what is no id.
    """
    if turn.live(job_id) is not None:
        return None
    known = turn.remembered(job_id)
    if known is None:
        raise unknown_job(job_id)
    packed = turn.state.ended.get(job_id)
    if packed is None:
        return JobView(job_id, "", "", known.state, 0, 0, 0, 0)
    view = finished_view(turn, unpack(packed), True)
    view.payload = None
    return view


def live_view(turn: Turn, job: Job, with_payload: bool) -> JobView:
    cold = decode_cold(job.cold)
    extra = cold.extra or _NO_EXTRA
    policy = retry_policy(turn, job)
    leased = job.state == LEASED
    session = turn.state.session_of(job) if leased else None
    view = JobView(
        job.job_id,
        job.spec.queue,
        job.spec.kind,
        job.state,
        job.priority,
        job.attempt + 1 if leased else job.attempt,
        policy.attempt_max,
        job.enqueued_at_ms,
        job.run_at_ms,
        job.leased_at_ms if leased else 0,
        0,
        leased and bool(job.flags & FLAG_STARTED),
        bool(job.flags & FLAG_CANCEL_REQUESTED),
        job.token,
        session.name if session is not None else "",
        job.spec.wire.media_type,
        len(job.payload),
        job.payload if with_payload else None,
        timeout_ms=job.spec.timeout_ms,
        retry=policy,
    )
    _add_cold(view, cold, extra)
    return view


def finished_view(turn: Turn, finished: Finished, with_payload: bool) -> JobView:
    spec = finished.spec
    cold = decode_cold(finished.cold)
    policy = spec.retry or turn.state.queues[spec.queue].settings.retry
    view = JobView(
        finished.job_id,
        spec.queue,
        spec.kind,
        finished.state,
        finished.priority,
        finished.attempt,
        policy.attempt_max,
        finished.enqueued_at_ms,
        0,
        finished.leased_at_ms,
        finished.ended_at_ms,
        token=finished.token,
        media_type=spec.media_type,
        payload_bytes=len(finished.payload),
        payload=finished.payload if with_payload else None,
        result=finished.result if with_payload else None,
        timeout_ms=spec.timeout_ms,
        reason=finished.reason,
        retry=policy,
    )
    _add_cold(view, cold, cold.extra or _NO_EXTRA)
    return view


def _add_cold(view: JobView, cold: Cold, extra: JobExtra) -> None:
    view.start_by_ms = extra.start_by_ms
    view.key = extra.key
    view.tags = extra.tags
    view.headers = extra.headers
    view.errors = cold.errors
    view.errors_dropped = cold.errors_dropped
    view.progress = cold.progress
    view.log_lines = cold.log_lines
    view.snooze_count = cold.snooze_count
    view.crash_count = cold.crash_count
    view.history = [
        JobHistoryEntry(EVENT_WORDS[event], at_ms, attempt)
        for event, at_ms, attempt in cold.history
    ]


# --- lists: a cursor is (section, key) of the last row looked at


def list_jobs(turn: Turn, command: ListJobs, seed: int) -> JobPage:
    """One page: live jobs in a stable order, then final ones, newest first of each ring.

    Of each job a short view: no payload, headers, log lines or history, the last error only.

    A turn looks at no more than `PAGE_SCAN_ROWS_MAX` jobs: a page of a rare match may
    come back short, or empty, with a cursor that goes on.
    """
    check_range("limit", command.limit, 1, limits.PAGE_ROWS_MAX)
    wanted = frozenset(command.states) or frozenset(int(state) for state in State)
    rows: list[JobView] = []
    for scanned, (place, view) in enumerate(_scan(turn, command, wanted), start=1):
        if view is not None:
            rows.append(view)
        if len(rows) == command.limit or scanned == limits.PAGE_SCAN_ROWS_MAX:
            return JobPage(jobs=rows, cursor=place)
    return JobPage(jobs=rows)


_LIVE = b"l"
_FINAL = b"f"


def _scan(
    turn: Turn, command: ListJobs, wanted: frozenset[int]
) -> Iterator[tuple[bytes, JobView | None]]:
    """(cursor, view or None when it does not match), behind the command's cursor."""
    section, after = command.cursor[:1] or _LIVE, command.cursor[1:]
    if section == _LIVE:
        if wanted & {SCHEDULED, int(State.BLOCKED), READY, LEASED}:
            yield from _scan_live(turn, command, wanted, after)
        after = b""
    if wanted & {int(State.SUCCEEDED), int(State.DEAD), int(State.CANCELLED)}:
        yield from _scan_final(turn, command, wanted, after)


def _scan_live(
    turn: Turn, command: ListJobs, wanted: frozenset[int], after: bytes
) -> Iterator[tuple[bytes, JobView | None]]:
    """Shard by shard, each in order of id: (shard, id) is a stable place in a changing table."""
    first = after[0] if after else 0
    for shard_no in range(first, 256):
        shard = turn.state.jobs.shards[shard_no]
        keys = sorted(shard)
        for job_id in keys:
            if shard_no == first and job_id <= after[1:]:
                continue
            job = shard[job_id]
            place = _LIVE + bytes([shard_no]) + job_id
            if job.state in wanted and _matches(command, job.spec.wire, job.enqueued_at_ms):
                yield place, _row_if_tagged(command, live_view(turn, job, False))
            else:
                yield place, None


def _scan_final(
    turn: Turn, command: ListJobs, wanted: frozenset[int], after: bytes
) -> Iterator[tuple[bytes, JobView | None]]:
    """Ring by ring, newest first; the place is (queue, ring, number of the end)."""
    state = turn.state
    skipping = _final_place(after)
    names = sorted(state.queues) if not command.queue else [command.queue]
    for name in names:
        queue = state.queues.get(name)
        if queue is None:
            continue
        for ring_no in (RING_SUCCEEDED, RING_DEAD):
            if skipping is not None and (name, ring_no) < skipping[:2]:
                continue
            before = None
            if skipping is not None and (name, ring_no) == skipping[:2]:
                before = skipping[2]
            for entry in reversed(queue.rings[ring_no].entries):
                if before is not None and entry.ended_no >= before:
                    continue
                if state.ended.get(entry.job_id) is not entry.packed:
                    continue
                number = entry.ended_no.to_bytes(8, "big")
                place = _FINAL + number + bytes([ring_no]) + name.encode()
                finished = unpack(entry.packed) if entry.state in wanted else None
                if finished and _matches(command, finished.spec, finished.enqueued_at_ms):
                    yield place, _row_if_tagged(command, finished_view(turn, finished, False))
                else:
                    yield place, None


def _final_place(after: bytes) -> tuple[str, int, int] | None:
    if len(after) < 10:
        return None
    number = int.from_bytes(after[:8], "big")
    return after[9:].decode("utf-8", "replace"), after[8], number


def _matches(command: ListJobs, spec: JobSpec, enqueued_at_ms: int) -> bool:
    """What can be said before a view is made: most jobs of a scan end here."""
    return (
        (not command.queue or command.queue == spec.queue)
        and (not command.kind or command.kind == spec.kind)
        and enqueued_at_ms >= command.enqueued_from_ms
        and (not command.enqueued_before_ms or enqueued_at_ms < command.enqueued_before_ms)
    )


def _row_if_tagged(command: ListJobs, view: JobView) -> JobView | None:
    """The view as a row of a page: without what would make a page larger than a frame."""
    if command.tag and command.tag not in view.tags:
        return None
    view.errors_dropped += max(0, len(view.errors) - 1)
    view.errors = [msgspec.structs.replace(error, traceback="") for error in view.errors[-1:]]
    view.headers = None
    view.progress = None
    view.log_lines = []
    view.history = []
    return view


# --- queues and sessions


def get_queue(turn: Turn, command: GetQueue, seed: int) -> QueueReply:
    queue = turn.state.queues.get(command.queue)
    if queue is None:
        raise UnknownQueue(
            f"There is no queue {command.queue!r}.",
            hint="Queues appear when they are first used; see `headrace queue list`.",
        )
    return QueueReply(queue=queue_view(turn, queue))


def list_queues(turn: Turn, command: ListQueues, seed: int) -> QueuePage:
    """One page in order of name."""
    check_range("limit", command.limit, 1, limits.PAGE_ROWS_MAX)
    after = command.cursor.decode("utf-8", "replace")
    names = sorted(name for name in turn.state.queues if not after or name > after)
    page = names[: command.limit]
    cursor = page[-1].encode() if len(names) > len(page) else b""
    return QueuePage(
        queues=[queue_view(turn, turn.state.queues[name]) for name in page],
        cursor=cursor,
    )


def queue_view(turn: Turn, queue: Queue) -> QueueView:
    unroutable = sum(
        lanes.count() for lanes in queue.kinds.values() if lanes.bitmap and not lanes.interested
    )
    counts, totals = queue.counts, queue.totals
    return QueueView(
        queue.name,
        queue.paused,
        counts[SCHEDULED],
        counts[State.BLOCKED],
        counts[READY],
        counts[LEASED],
        queue.rings[RING_SUCCEEDED].count,
        queue.rings[RING_DEAD].count,
        unroutable,
        _oldest_ready_ms(turn, queue),
        queue.payload_bytes,
        sum(ring.size_bytes for ring in queue.rings),
        totals[TOTAL_ENQUEUED],
        totals[TOTAL_SUCCEEDED],
        totals[TOTAL_FAILED],
        totals[TOTAL_DEAD],
        totals[TOTAL_CANCELLED],
        queue.settings,
    )


def _oldest_ready_ms(turn: Turn, queue: Queue) -> int:
    heads: list[Job] = []
    for lanes in queue.kinds.values():
        for lane in lanes.lanes.values():
            heads += lane.first(1)
    if not heads:
        return 0
    first = min(heads, key=lambda job: job.number)
    return max(0, turn.now_ms - max(first.enqueued_at_ms, first.run_at_ms))


def list_sessions(turn: Turn, command: ListSessions, seed: int) -> SessionPage:
    """One page in order of opening; what only the runtime knows is filled in by it."""
    check_range("limit", command.limit, 1, limits.PAGE_ROWS_MAX)
    after = int.from_bytes(command.cursor, "big")
    numbers = sorted(number for number in turn.state.sessions_by_no if number > after)
    page = numbers[: command.limit]
    cursor = page[-1].to_bytes(8, "big") if len(numbers) > len(page) else b""
    sessions = [session_view(turn.state.sessions_by_no[number]) for number in page]
    return SessionPage(sessions=sessions, cursor=cursor)


def session_view(session: Session) -> SessionView:
    running = sum(1 for job in session.leases.values() if job.flags & FLAG_STARTED)
    return SessionView(
        session.session_id,
        session.name,
        session.host,
        session.pid,
        session.build,
        session.kinds,
        session.queues,
        session.credit,
        len(session.leases),
        running,
        session.opened_at_ms,
        session.connected,
        0,
        0,
        False,
        0,
    )
