"""Deciding the claims of clients without a session: one lease a job."""

from __future__ import annotations

from headrace.engine.dispatching import claim_for, within_bytes
from headrace.engine.job import Job
from headrace.engine.lanes import first_jobs
from headrace.engine.maintaining import cancel_late
from headrace.engine.turn import Turn
from headrace.engine.validate import check_range
from headrace.model import limits
from headrace.model.commands import Claim
from headrace.model.replies import Claimed


def claim(turn: Turn, command: Claim, seed: int) -> Claimed:
    """Ready jobs are leased, queues in the order given; none when nothing is ready."""
    check_range("jobs_max", command.jobs_max, 1, limits.CLAIM_JOBS_MAX)
    check_range("lease_ms", command.lease_ms, limits.LEASE_MS_MIN, limits.LEASE_MS_MAX)
    check_range("wait_ms", command.wait_ms, 0, limits.WAIT_MS_MAX)
    check_range("kinds of a claim", len(command.kinds), 1, limits.KINDS_PER_SESSION_MAX)
    check_range("queues of a claim", len(command.queues), 1, limits.QUEUES_PER_SESSION_MAX)
    if cancel_late(turn):
        return Claimed()
    jobs: list[Job] = []
    for name in dict.fromkeys(command.queues):
        queue = turn.state.queues.get(name)
        if queue is None or queue.paused:
            continue
        lanes = [queue.kinds[kind] for kind in dict.fromkeys(command.kinds) if kind in queue.kinds]
        jobs += first_jobs(lanes, command.jobs_max - len(jobs))
    if not jobs:
        return Claimed()
    return Claimed(groups=claim_for(turn, None, within_bytes(jobs), command.lease_ms))


def has_ready(turn: Turn, queues: tuple[str, ...], kinds: tuple[str, ...]) -> bool:
    """Whether a claim of these would find a job now."""
    for name in queues:
        queue = turn.state.queues.get(name)
        if queue is not None and not queue.paused:
            for kind in kinds:
                lanes = queue.kinds.get(kind)
                if lanes is not None and lanes.bitmap:
                    return True
    return False
