"""Serving sessions that have room: claims, in the same turn as what feeds them.

A session is *hungry* while it may have room and something may be ready for it. It stops
being hungry when it is full or finds nothing, and becomes so again when a lease of its
own ends, its credit grows, or a lane that it serves is fed.
"""

from __future__ import annotations

from headrace.engine.job import Job, Spec, cold_of
from headrace.engine.lanes import KindLanes, first_jobs
from headrace.engine.maintaining import cancel_late
from headrace.engine.sessions import Session
from headrace.engine.state import EngineState
from headrace.engine.turn import Turn
from headrace.model import limits
from headrace.model.effects import PushJobs
from headrace.model.records import JobsClaimed
from headrace.model.replies import PushedGroup, PushedJob

CLAIMS_PER_TURN_MAX = 16


def dispatch(turn: Turn) -> bool:
    """Sessions with room hold what is ready for them; True when there is more to do.

    Bounded by `CLAIMS_PER_TURN_MAX` claims and about `CLAIM_JOBS_MAX` jobs.
    """
    if cancel_late(turn):
        return True
    state = turn.state
    _wake_fed(state)
    hungry = state.hungry
    claimed = 0
    unserved = 0
    for _ in range(CLAIMS_PER_TURN_MAX):
        if not hungry:
            _wake_fed(state)
        if not hungry:
            return False
        # Who was served and is still hungry stands behind those whose turn is to come.
        unserved = unserved or len(hungry)
        number = next(iter(hungry))
        session = hungry.pop(number)
        jobs = within_bytes(_choose(turn, session, unserved))
        unserved -= 1
        if not jobs:
            continue
        groups = claim_for(turn, session, jobs)
        turn.effects.append(PushJobs(session.session_id, groups))
        if session.room > 0:
            hungry[number] = session
        claimed += len(jobs)
        if claimed >= limits.CLAIM_JOBS_MAX:
            break
    return bool(hungry or state.fed)


def _wake_fed(state: EngineState) -> None:
    """Sessions that serve a lane which got jobs are hungry.

    A lane stays fed while it has jobs and somebody has room: a session that was woken for
    it may have filled up elsewhere, and then others must be woken.
    """
    still: list[KindLanes] = []
    for lanes in state.fed:
        if lanes.bitmap and not state.queues[lanes.queue].paused and _wake(state, lanes):
            still.append(lanes)
        else:
            lanes.fed = False
    state.fed = still


def _wake(state: EngineState, lanes: KindLanes) -> bool:
    """As many interested sessions as its jobs need are hungry, those longest idle first."""
    waiting = lanes.count()
    interested = lanes.interested
    woken = False
    for position, number in enumerate(interested):
        session = state.sessions_by_no[number]
        room = session.room
        if room > 0:
            state.hungry[number] = session
            woken = True
            waiting -= room
            if waiting <= 0:
                lanes.interested = interested[position + 1 :] + interested[: position + 1]
                break
    return woken


def within_bytes(jobs: list[Job]) -> list[Job]:
    """As many of the first jobs as one push or reply should carry; at least one."""
    size_bytes = 0
    for position, job in enumerate(jobs):
        size_bytes += len(job.payload)
        if job.cold is not None:
            size_bytes += limits.HEADERS_BYTES_MAX
        if size_bytes > limits.CLAIM_BYTES_MAX and position:
            return jobs[:position]
    return jobs


def _choose(turn: Turn, session: Session, hungry_count: int) -> list[Job]:
    """What this session is to claim now: its queues in rotation, or strictly as listed.

    When several sessions are hungry, one does not take what would serve them all.
    """
    room = min(session.room, limits.CLAIM_JOBS_MAX)
    if room <= 0:
        return []
    queues = turn.state.queues
    served = session.served
    busy: list[list[KindLanes]] = []
    first = 0
    for offset in range(len(served)):
        position = offset if session.strict else (session.rotation + offset) % len(served)
        lanes = [kind for kind in served[position] if kind.bitmap]
        if lanes and not queues[lanes[0].queue].paused:
            first = first if busy else position
            busy.append(lanes)
    if not busy:
        return []
    session.rotation = (first + 1) % len(served)
    if hungry_count > 1:
        ready = sum(kind.count() for lanes in busy for kind in lanes)
        room = min(room, max(1, -(-ready // hungry_count)))
    return _take(busy, room, strict=session.strict)


def _take(busy: list[list[KindLanes]], room: int, *, strict: bool) -> list[Job]:
    found: list[Job] = []
    for position, lanes in enumerate(busy):
        left = room - len(found)
        share = left if strict else -(-left // (len(busy) - position))
        found += first_jobs(lanes, share)
    if len(found) < room and not strict and len(busy) > 1:
        return _fill(busy, room, found)
    return found


def _fill(busy: list[list[KindLanes]], room: int, found: list[Job]) -> list[Job]:
    """What a queue could not use of its share goes to the others."""
    taken = {job.job_id for job in found}
    for lanes in busy:
        for job in first_jobs(lanes, room):
            if len(found) == room:
                return found
            if job.job_id not in taken:
                taken.add(job.job_id)
                found.append(job)
    return found


def claim_for(
    turn: Turn, session: Session | None, jobs: list[Job], lease_ms: int = 0
) -> list[PushedGroup]:
    """These ready jobs are leased by one record, whose index is their token."""
    session_id = b"" if session is None else session.session_id
    turn.emit(JobsClaimed(session_id, [job.job_id for job in jobs], lease_ms))
    token = turn.state.index
    groups: dict[int, PushedGroup] = {}
    for job in jobs:
        spec = job.spec
        group = groups.get(id(spec))
        if group is None:
            group = groups[id(spec)] = _group(turn, spec, token)
        group.jobs.append(_pushed(job))
    return list(groups.values())


def _group(turn: Turn, spec: Spec, token: int) -> PushedGroup:
    policy = spec.wire.retry or turn.state.queues[spec.queue].settings.retry
    return PushedGroup(
        token,
        spec.queue,
        spec.kind,
        spec.wire.media_type,
        spec.timeout_ms,
        policy.attempt_max,
        [],
    )


def _pushed(job: Job) -> PushedJob:
    if job.cold is None:
        return PushedJob(job.job_id, job.attempt + 1, job.payload, None, job.priority)
    cold = cold_of(job)
    extra = cold.extra
    return PushedJob(
        job.job_id,
        job.attempt + 1,
        job.payload,
        extra.headers if extra is not None else None,
        job.priority,
        extra.tags if extra is not None else (),
        cold.snooze_count,
    )
