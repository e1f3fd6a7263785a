"""When a checker must not complain: each excuse in one place, with the bug that it might hide.

An excuse is as narrow as the history allows. Where a history does not tell what an excuse
rests on (of real processes nobody knows when they connected), it is granted. What may be undone
by a crash stands in `early`, when nothing is broken in `liveness`.
"""

from __future__ import annotations

from bisect import bisect_right

from headrace.sim.checkers.asked import EXISTING, OK, REFUSED, UNKNOWN, Item
from headrace.sim.checkers.base import Life
from headrace.sim.checkers.ledger import Step
from headrace.sim.checkers.liveness import ALL_WELL
from headrace.sim.history import NEVER, Call, Happened


def may_have_left_twice(life: Life, call: Call) -> bool:
    """Its caller was connected anew between call and return: the answer is that of a repeat,
    which may have met the effect of the first try.

    May hide: a refusal of what was done, when its caller lost its connection meanwhile.
    """
    begun_ns = life.connected_ns.get(call.actor)
    if begun_ns is None or call.returned_ns == NEVER:
        return True
    return bisect_right(begun_ns, call.called_ns) < bisect_right(begun_ns, call.returned_ns)


def may_create(life: Life, item: Item) -> bool:
    """An enqueue; `existing` of its own id, too: its first try may have made the job."""
    if item.outcome == EXISTING:
        assert item.existing is not None
        return item.existing.job_id == item.job_id and may_have_left_twice(life, item.call)
    return item.outcome in (OK, UNKNOWN)


def lives_twice(life: Life, job_id: bytes) -> bool:
    """Revived, or enqueued anew when its id was long forgotten: each life has its own end. By
    the log, where it is whole; else by what may have happened.

    May hide: two ends of one of its lives, from those who look at clients alone.
    """
    if life.ledger.whole:
        story = life.ledger.stories.get(job_id)
        steps = [] if story is None else story.steps
        return sum(step.verb in ("enqueue", "revive") for step in steps) > 1
    if any(item.outcome != REFUSED for item in life.asked.items(job_id, "revive")):
        return True
    return sum(may_create(life, item) for item in life.asked.enqueues(job_id)) > 1


def is_made_anew(life: Life, job_id: bytes) -> bool:
    """Forgotten while one call was repeated, which then made two jobs: `OneJobAnId` judges it.

    May hide: wrong answers about a job that was made twice by one call.
    """
    story = life.ledger.stories.get(job_id)
    made = [step for step in story.steps if step.verb == "enqueue"] if story is not None else []
    asked = [item for item in life.asked.enqueues(job_id) if item.outcome in (OK, UNKNOWN)]
    return len(made) > max(1, len(asked))


def undone(end: Step, until_ns: int) -> bool:
    """Revived before anybody had to be told. Who asks in between may be heard before the end or
    after the revival, and in one commit nobody is told of such an end.

    May hide: an end that is not told because its job is revived a little later.
    """
    return any(
        step.verb == "revive" and step.event.at_ns <= until_ns for step in end.job.after(end.index)
    )


_BY_NAME = frozenset({"kill_worker", "stop_worker", "kill_asker", "pause_other"})
"""Whom they have met is told by name: `worker 0 paused`."""
_LEAVE_WORKERS_HEARD = frozenset({"block_worker", "wall_jump", "wall_clock_jumped", "faults over"})
_NETWORK = frozenset({"reset_connections", "silence_connections", "part_machines", "rough_weather"})
_LASTING_NS = 15_000_000_000
"""What has begun before may go on for so long, but for the silence of a connection."""


def may_have_been_silent(life: Life, actor: str, since_ns: int, until_ns: int) -> bool:
    """Its server may not have heard of it for so long meanwhile that its lease was given up,
    and it cannot know yet. Of a history that does not tell of faults that is so.

    May hide: a lease of this actor that was given up for no reason, while something else that
    silences workers was going on.
    """
    told = [event for event in life.history.events if type(event) is Happened]
    if not told:
        return True
    begun_ns = life.connected_ns.get(actor, [])
    connected_ns = begun_ns[place - 1] if (place := bisect_right(begun_ns, since_ns)) else 0
    if place < bisect_right(begun_ns, until_ns):
        return True
    silencing = _silencing(told, actor)
    return any(
        (connected_ns if event.what in _NETWORK else since_ns - _LASTING_NS)
        <= event.at_ns
        <= until_ns
        for event in silencing
    )


def _silencing(told: list[Happened], actor: str) -> list[Happened]:
    """Without what befell others, where nobody else is the server as well."""
    harmless = ALL_WELL | _LEAVE_WORKERS_HEARD
    apart = _has_own_process(told)
    return [
        event
        for event in told
        if event.what not in harmless and not (apart and _is_of_others(event.what, actor))
    ]


def _is_of_others(what: str, actor: str) -> bool:
    name, _, deed = what.rpartition(" ")
    others = deed in ("killed", "paused", "closed") and name not in (actor, "server")
    return others or what in _BY_NAME


def _has_own_process(told: list[Happened]) -> bool:
    """A server that listens for others is not embedded in one of those who use it."""
    urls = [event.fields.get("urls", ()) for event in told if event.what == "server_ready"]
    return bool(urls) and all(any(url.startswith("headrace:") for url in one) for one in urls)
