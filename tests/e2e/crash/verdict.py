"""What must hold after crashes: small judges, each with one promise to look after.

A judge yields a sentence for every breach; none of them knows what was killed when.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from headrace.model.ids import id_to_text
from headrace.model.job import FINAL_STATES, State
from headrace.model.replies import JobView
from tests.e2e.crash.journal import History
from tests.e2e.crash.ledger import Ledger

Breaches = Iterator[str]


def breaches(
    history: History,
    views: Sequence[JobView],
    ledger: Ledger | None = None,
    *,
    workers_stood_still: bool = False,
) -> list[str]:
    """Every broken promise; `views` are all jobs there are, page by page.

    `workers_stood_still`: one that goes on starts what it held, before it can know that its
    lease is over; so leases may start out of order.
    """
    jobs = {id_to_text(view.job_id): view for view in views}
    found = [*_each_once(views), *_nothing_lost(history, jobs), *_nothing_invented(history, jobs)]
    found += [*_all_final(jobs), *_keys_answer_once(history), *_cancelled_never_ran(history, jobs)]
    found += [*_one_winner(history, jobs), *_attempts_fit(history, jobs), *_ends_fit(jobs)]
    if not workers_stood_still:
        found += _tokens_grow(history)
    if ledger is not None:
        found += [*_leases_end_once(ledger), *_ledger_fits(history, jobs, ledger)]
        found += [f"log time went back at index {index}" for index in ledger.went_back]
    return found


def _each_once(views: Sequence[JobView]) -> Breaches:
    seen: dict[bytes, int] = {}
    for view in views:
        if view.job_id in seen:
            states = State(seen[view.job_id]).word, State(view.state).word
            yield f"{id_to_text(view.job_id)} is in two states: {states}"
        seen[view.job_id] = view.state


def _nothing_lost(history: History, jobs: dict[str, JobView]) -> Breaches:
    for job_id in history.ids("taken") - jobs.keys():
        yield f"{job_id} was acknowledged, and is lost"
    for answers in history.answers_by_key().values():
        yield from (f"{one} answered for a key, and is lost" for one in answers - jobs.keys())
    for job_id in history.ids("refused") & jobs.keys():
        yield f"{job_id} was refused, and is there"


def _nothing_invented(history: History, jobs: dict[str, JobView]) -> Breaches:
    for job_id in jobs.keys() - history.ids("asked"):
        yield f"{job_id} was never asked for"


def _all_final(jobs: dict[str, JobView]) -> Breaches:
    for job_id, view in jobs.items():
        if view.state not in FINAL_STATES:
            yield f"{job_id} is {State(view.state).word} after everything was drained"


def _keys_answer_once(history: History) -> Breaches:
    for key, answers in history.answers_by_key().items():
        if len(answers) > 1:
            yield f"key {key} was answered with {sorted(answers)}"


def _cancelled_never_ran(history: History, jobs: dict[str, JobView]) -> Breaches:
    starts = history.starts()
    for job_id in history.ids("cancelled"):
        if job_id in starts:
            yield f"{job_id} ran after its cancel was acknowledged"
        if job_id in jobs and jobs[job_id].state != State.CANCELLED:
            yield f"{job_id} was cancelled, and is {State(jobs[job_id].state).word}"


def _one_winner(history: History, jobs: dict[str, JobView]) -> Breaches:
    """The ack that was taken is the newest lease's, and there is one."""
    starts = history.starts()
    for job_id, tokens in history.leases("acked").items():
        view = jobs.get(job_id)
        if view is None or view.state != State.SUCCEEDED:
            yield f"{job_id} was acked, and did not succeed"
        elif set(tokens) != {view.token}:
            yield f"{job_id} ended under lease {view.token}, and {tokens} were told that they won"
        elif max(starts.get(job_id, {0: 0})) > view.token:
            yield f"{job_id} started again after it had succeeded"
    for job_id, view in jobs.items():
        if view.state == State.SUCCEEDED and view.token not in starts.get(job_id, {}):
            yield f"{job_id} succeeded under lease {view.token}, which nobody ran"


def _tokens_grow(history: History) -> Breaches:
    for job_id, tokens in history.leases("started").items():
        if any(later <= earlier for earlier, later in pairwise(tokens)):
            yield f"{job_id} was started under leases {tokens}, in this order"


def _attempts_fit(history: History, jobs: dict[str, JobView]) -> Breaches:
    """An attempt is charged only to a start, at most once, and the count never goes back."""
    announced = history.leases("announced")
    for job_id, starts in history.starts().items():
        tokens = sorted(starts)
        for earlier, later in pairwise(tokens):
            if starts[later] < starts[earlier]:
                yield f"{job_id} went back from attempt {starts[earlier]} to {starts[later]}"
        for token, attempt in starts.items():
            before = sum(other < token for other in set(announced.get(job_id, ())))
            if attempt - 1 > before:
                yield f"{job_id} was at attempt {attempt} after {before} starts"
    for job_id, view in jobs.items():
        if view.attempt > len(set(announced.get(job_id, ()))):
            yield f"{job_id} was charged {view.attempt} attempts for fewer starts"
        if view.attempt > view.attempt_max:
            yield f"{job_id} was charged {view.attempt} of {view.attempt_max} attempts"


def _ends_fit(jobs: dict[str, JobView]) -> Breaches:
    """Each kind ends as its handler wants it, unless its workers were killed too often."""
    for job_id, view in jobs.items():
        crashed = view.reason == "crashed"
        if crashed and view.retry is not None and view.crash_count < view.retry.crash_max:
            yield f"{job_id} is dead of {view.crash_count} crashes"
        if crashed or view.state == State.CANCELLED:
            continue
        wanted = State.DEAD if view.kind == "doomed" else State.SUCCEEDED
        if view.state != wanted:
            yield f"{job_id} ({view.kind}) is {State(view.state).word}: {view.reason}"
        if view.kind == "doomed" and view.attempt != view.attempt_max:
            yield f"{job_id} is dead after {view.attempt} of {view.attempt_max} attempts"


def _leases_end_once(ledger: Ledger) -> Breaches:
    for job_id, count in ledger.enqueued.items():
        if count > 1:
            yield f"{job_id} is in the log {count} times"
    for job_id, tokens in ledger.claimed.items():
        for token in tokens:
            if ledger.ends((job_id, token)) != 1:
                yield f"lease {token} of {job_id} ended {ledger.ends((job_id, token))} times"


def _ledger_fits(history: History, jobs: dict[str, JobView], ledger: Ledger) -> Breaches:
    """Log, views and journal tell one story; starts = charged attempts + uncharged ends."""
    attempts = ledger.attempts()
    announced = history.leases("announced")
    for job_id, view in jobs.items():
        if attempts[job_id] != view.attempt:
            yield f"{job_id} shows {view.attempt} attempts; its log says {attempts[job_id]}"
    for job_id, starts in history.starts().items():
        unknown = starts.keys() - ledger.claimed[job_id]
        if unknown:
            yield f"{job_id} ran under leases {sorted(unknown)}, which the log does not know"
    for job_id, token in ledger.marked | ledger.charged.keys():
        if token not in announced.get(job_id, ()):
            yield f"lease {token} of {job_id} counts as started, and nobody started it"
