"""Why a job does not run, what holds it, and what would free it."""

from __future__ import annotations

from headrace.engine.job import (
    FLAG_CANCEL_REQUESTED,
    FLAG_STARTED,
    READY,
    SCHEDULED,
    Job,
)
from headrace.engine.reading import job_view
from headrace.engine.turn import Turn
from headrace.model.commands import ExplainJob
from headrace.model.job import State
from headrace.model.replies import Explanation, JobView, Reason


def explain_job(turn: Turn, command: ExplainJob, seed: int) -> Explanation:
    """Raises: `UnknownJob`."""
    view = job_view(turn, command.job_id, False)
    job = turn.live(command.job_id)
    if job is None:
        reasons = [_final(view)]
    elif job.state == SCHEDULED:
        reasons = _scheduled(turn, job)
    elif job.state == READY:
        reasons = _ready(turn, job)
    else:
        reasons = [_leased(turn, job)]
    return Explanation(
        job_id=command.job_id,
        state=view.state,
        summary=reasons[0].sentence if reasons else "Nothing holds it: it is served next.",
        reasons=reasons,
    )


def _final(view: JobView) -> Reason:
    word = State(view.state).word
    if view.state == State.SUCCEEDED:
        return Reason("succeeded", f"It succeeded at attempt {view.attempt}.")
    why = view.reason or word
    last = view.errors[-1] if view.errors else None
    detail = f" Last error: {last.type}: {last.message}" if last is not None else ""
    sentence = f"It is {word} ({why}) after {view.attempt} attempts.{detail}"
    return Reason(word, sentence, "`headrace job retry ID` revives it.")


def _scheduled(turn: Turn, job: Job) -> list[Reason]:
    left_ms = max(0, job.run_at_ms - turn.now_ms)
    what = f"It waits for attempt {job.attempt + 1}" if job.attempt else "It waits for its time"
    reasons = [
        Reason(
            "retry" if job.attempt else "scheduled",
            f"{what}, due in {left_ms} ms.",
            "`headrace job run-now ID` makes it ready.",
        )
    ]
    return reasons + _lane_reasons(turn, job)


def _ready(turn: Turn, job: Job) -> list[Reason]:
    reasons = _lane_reasons(turn, job)
    ahead = _count_ahead(turn, job)
    if ahead:
        reasons.append(Reason("behind", f"{ahead} jobs of its kind are served before it."))
    if not reasons:
        reasons.append(Reason("next", "It is the next job of its kind."))
    return reasons


def _lane_reasons(turn: Turn, job: Job) -> list[Reason]:
    """What holds the whole lane: pause, nobody who handles it, nobody with room."""
    state = turn.state
    queue = state.queues[job.spec.queue]
    reasons: list[Reason] = []
    if queue.paused:
        reasons.append(
            Reason(
                "paused",
                f"Queue {queue.name!r} is paused.",
                f"`headrace queue resume {queue.name}`",
            )
        )
    lanes = state.lanes[job.spec.lanes_no]
    sessions = [state.sessions_by_no[number] for number in lanes.interested]
    if not sessions:
        reasons.append(
            Reason(
                "unroutable",
                f"No worker handles kind {job.spec.kind!r} in queue {job.spec.queue!r}.",
                "Start a worker that registers this kind and serves this queue.",
            )
        )
    elif not any(session.connected for session in sessions):
        reasons.append(Reason("disconnected", "The workers that handle it are not connected."))
    elif not any(session.room > 0 for session in sessions):
        full = ", ".join(session.name for session in sessions[:3])
        reasons.append(
            Reason(
                "no_room",
                f"Every worker that handles it is busy: {full}.",
                "Add workers, or raise their concurrency.",
            )
        )
    return reasons


_COUNT_AHEAD_MAX = 10_000


def _count_ahead(turn: Turn, job: Job) -> int:
    """Jobs of its kind that come first; counted up to a bound."""
    lanes = turn.state.lanes[job.spec.lanes_no]
    above = sum(lane.count for priority, lane in lanes.lanes.items() if priority > job.priority)
    before = 0
    for other in lanes.lanes[job.priority].in_order():
        if other.number >= job.number or before == _COUNT_AHEAD_MAX:
            break
        before += 1
    return above + before


def _leased(turn: Turn, job: Job) -> Reason:
    session = turn.state.session_of(job)
    holder = "a client without a session" if session is None else f"worker {session.name!r}"
    held_ms = turn.now_ms - job.leased_at_ms
    if job.flags & FLAG_CANCEL_REQUESTED:
        return Reason("cancelling", f"It was asked to stop; {holder} has not confirmed yet.")
    if job.flags & FLAG_STARTED:
        return Reason("running", f"It runs: attempt {job.attempt + 1} at {holder}, {held_ms} ms.")
    return Reason("reserved", f"It is reserved by {holder} for {held_ms} ms, not started yet.")
