"""What must hold of the whole state at any time between two commands."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from headrace.engine.finished import unpack
from headrace.engine.job import LEASED, READY, SCHEDULED, Job, held_bytes
from headrace.engine.queues import Queue
from headrace.engine.state import EngineState
from headrace.model.errors import invariant


def check_state(state: EngineState) -> None:
    """Raises: `InvariantViolated`, naming the first thing that does not hold.

    Complexity: O(everything); for tests, simulation and `verify`.
    """
    _check_counts(state)
    _check_lanes(state)
    _check_timers(state)
    _check_leases(state)
    _check_ended(state)
    _check_keys(state)


def _check_counts(state: EngineState) -> None:
    counted: Counter[tuple[str, int]] = Counter()
    payload: Counter[str] = Counter()
    specs: Counter[int] = Counter()
    for job_id, job in state.jobs.items():
        invariant(job.job_id == job_id, "a job stands under its own id", job=job_id.hex())
        invariant(
            job.state in (SCHEDULED, READY, LEASED),
            "a live job is not final",
            s=job.state,
        )
        invariant(job.number < state.next_number, "numbers come from the counter")
        counted[job.spec.queue, job.state] += 1
        payload[job.spec.queue] += held_bytes(job)
        specs[id(job.spec)] += 1
    invariant(state.job_count == sum(counted.values()), "job_count counts the live jobs")
    invariant(state.payload_bytes == sum(payload.values()), "payload_bytes is their sum")
    for name, queue in state.queues.items():
        for job_state in (SCHEDULED, READY, LEASED):
            invariant(
                queue.counts[job_state] == counted[name, job_state],
                "a queue's counts are those of its jobs",
                queue=name,
                state=job_state,
                kept=queue.counts[job_state],
                counted=counted[name, job_state],
            )
        invariant(queue.payload_bytes == payload[name], "a queue knows its payload bytes")
    for spec in state.specs.values():
        invariant(spec.job_count == specs[id(spec)], "a spec counts its jobs", kind=spec.kind)
        invariant(spec.job_count > 0, "a spec without jobs is dropped", kind=spec.kind)


def _check_lanes(state: EngineState) -> None:
    standing: Counter[int] = Counter()
    for lanes in state.lanes:
        bitmap = 0
        for priority, lane in lanes.lanes.items():
            # Not `first`, which tidies up: a check must not mend what it looks at.
            jobs = list(islice(lane.in_order(), lane.count + 1))
            invariant(len(jobs) == lane.count, "a lane counts its live jobs", kind=lanes.kind)
            invariant(lane.count > 0, "an empty lane is dropped", kind=lanes.kind)
            numbers = [job.number for job in jobs]
            invariant(numbers == sorted(set(numbers)), "a lane is in order of number")
            for job in jobs:
                _check_ready(state, job, priority, lanes.queue, lanes.kind)
                standing[id(job)] += 1
            bitmap |= 1 << priority
        invariant(
            bitmap == lanes.bitmap,
            "the bitmap shows the lanes with jobs",
            kind=lanes.kind,
        )
    ready = sum(queue.counts[READY] for queue in state.queues.values())
    invariant(len(standing) == ready, "every ready job stands in a lane")
    invariant(all(count == 1 for count in standing.values()), "and in one only")


def _check_ready(state: EngineState, job: Job, priority: int, queue: str, kind: str) -> None:
    invariant(state.jobs.get(job.job_id) is job, "a lane holds the job of the table")
    invariant(job.priority == priority, "a job stands in the lane of its priority")
    invariant(job.spec.queue == queue, "a job stands in a lane of its queue")
    invariant(job.spec.kind == kind, "a job stands in a lane of its kind")


def _check_timers(state: EngineState) -> None:
    waiting = {job.job_id for job in state.scheduled.live_jobs()}
    scheduled = sum(queue.counts[SCHEDULED] for queue in state.queues.values())
    invariant(state.scheduled.count == scheduled, "a timer a scheduled job")
    invariant(len(waiting) == scheduled, "every scheduled job has a live timer")


def _check_leases(state: EngineState) -> None:
    held = 0
    for session in state.sessions.values():
        for job_id, job in session.leases.items():
            invariant(state.jobs.get(job_id) is job, "a session holds jobs of the table")
            invariant(job.state == LEASED, "a job that is held is leased", job=job_id.hex())
            invariant(job.session_no == session.number, "a leased job knows its holder")
        held += len(session.leases)
    leased = sum(queue.counts[LEASED] for queue in state.queues.values())
    invariant(held + state.leased_alone == leased, "every leased job has one holder")
    for _, job in state.jobs.items():
        if job.state == LEASED:
            invariant(0 < job.token <= state.index, "a token is the index of a record")


def _check_ended(state: EngineState) -> None:
    kept: Counter[tuple[str, int]] = Counter()
    size_bytes = 0
    for job_id, value in state.ended.items():
        invariant(state.jobs.get(job_id) is None, "no job is live and final", job=job_id.hex())
        finished = unpack(value)
        invariant(finished.job_id == job_id, "a kept job stands under its own id")
        queue = state.queues[finished.spec.queue]
        ring_no = 0 if queue.ring_of(finished.state) is queue.rings[0] else 1
        kept[queue.name, ring_no] += 1
        size_bytes += len(value)
    invariant(state.finished_bytes == size_bytes, "finished_bytes is the sum of what is kept")
    for queue in state.queues.values():
        _check_rings(state, queue, kept)


def _check_rings(state: EngineState, queue: Queue, kept: Counter[tuple[str, int]]) -> None:
    for ring_no, ring in enumerate(queue.rings):
        live = [entry for entry in ring.entries if state.ended.get(entry.job_id) is entry.packed]
        invariant(ring.count == len(live), "a ring counts its live jobs", queue=queue.name)
        invariant(ring.count == kept[queue.name, ring_no], "and holds all that are kept")
        numbers = [entry.ended_no for entry in live]
        invariant(numbers == sorted(numbers), "a ring is in order of ends")
        invariant(
            ring.size_bytes == sum(len(entry.packed) for entry in live),
            "a ring knows its bytes",
            queue=queue.name,
        )


def _check_keys(state: EngineState) -> None:
    keys = state.keys
    for _, taken in keys.table.items():
        invariant(taken.number < keys.next_number, "key numbers come from the counter")
    invariant(len(keys) == len(keys.table), "keys are counted")
    invariant(keys.live_entries() == len(keys), "a key stands in the order of expiry once")
