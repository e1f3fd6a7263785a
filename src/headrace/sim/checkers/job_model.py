"""A job as its clients can know it: where it may stand, and what each answer says of that.

A state of the search is the set of states in which the job can be, closed under what time and
crashes do to it (a lease ends, a lost push is granted to nobody, retention forgets): such
things need no operations of their own. That is permissive where a log would know better, and
exact where it counts: no answer may contradict another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from headrace.model.job import State
from headrace.model.replies import JobView

ABSENT = 0
WAITING = int(State.READY)
LEASED = int(State.LEASED)
SUCCEEDED = int(State.SUCCEEDED)
DEAD = int(State.DEAD)
CANCELLED = int(State.CANCELLED)
FINAL = (SUCCEEDED, DEAD, CANCELLED)
PHASE = {int(State.SCHEDULED): WAITING, int(State.BLOCKED): WAITING}

One = tuple[int, int, bool, int, bool]
"""(phase, token of its newest lease, that lease ended by nack, highest token seen, kept).

Token 0 is a lease that nobody has seen. A final job that is not kept is remembered by id only."""
States = frozenset[One]
Effect = Callable[[One], Iterable[One]]
"""Where one state may lead; nothing: the answer would be wrong there."""

NOTHING: One = (ABSENT, 0, False, 0, True)


class Surroundings:
    """What may happen to a job by itself; the closures of sets of states are kept."""

    def __init__(self, *, start_by: bool, cancels: bool, unseen: bool, forgets: bool) -> None:
        self.start_by = start_by
        self.unseen = unseen
        """A lease may be granted to somebody who never hears of it."""
        self.cancels = cancels
        self.forgets = forgets
        self._closed: dict[States, States] = {}

    def closed(self, states: States) -> States:
        """These states, and all that time alone makes of them."""
        found = self._closed.get(states)
        if found is None:
            reached = set(states)
            waiting = list(states)
            while waiting:
                new = [one for one in self._next(waiting.pop()) if one not in reached]
                reached.update(new)
                waiting += new
            found = self._closed[states] = frozenset(reached)
        return found

    def _next(self, one: One) -> Iterator[One]:
        phase, token, nacked, top, kept = one
        if phase == WAITING:
            if self.unseen:
                yield LEASED, 0, False, top, True
            if self.start_by:
                yield CANCELLED, token, nacked, top, True
        elif phase == LEASED:
            yield WAITING, token, False, top, True
            yield DEAD, token, False, top, True
            if self.cancels:
                yield CANCELLED, token, False, top, True
        elif phase != ABSENT and kept:
            yield phase, token, nacked, top, False
        elif phase != ABSENT and self.forgets:
            yield ABSENT, 0, False, top, True

    def step(self, effect: Effect, *, may_not: bool) -> Callable[[States], States | None]:
        """`may_not`: it may as well not have happened."""
        known: dict[States, States | None] = {}

        def step(states: States) -> States | None:
            if states not in known:
                reached = {after for one in states for after in effect(one)}
                if may_not:
                    reached |= states
                known[states] = self.closed(frozenset(reached)) if reached else None
            return known[states]

        return step


# --- what an operation does to one state, by its answer


def created(one: One) -> Iterator[One]:
    if one[0] == ABSENT:
        yield WAITING, 0, False, one[3], True


def existing(state: int) -> Effect:
    phase = PHASE.get(state, state)

    def effect(one: One) -> Iterator[One]:
        if one[0] != ABSENT and (not phase or one[0] == phase):
            yield one

    return effect


def only(*phases: int) -> Effect:
    def effect(one: One) -> Iterator[One]:
        if one[0] in phases:
            yield one

    return effect


def granted(token: int) -> Effect:
    def effect(one: One) -> Iterator[One]:
        if one[0] == WAITING and token > one[3]:
            yield LEASED, token, False, token, True

    return effect


def acked(token: int) -> Effect:
    def effect(one: One) -> Iterator[One]:
        phase, held, _, top, _ = one
        if held == token:
            if phase == LEASED:
                yield SUCCEEDED, token, False, top, True
            elif phase == SUCCEEDED:
                yield one

    return effect


def ack_refused(token: int) -> Effect:
    def effect(one: One) -> Iterator[One]:
        if one[1] != token or one[0] not in (LEASED, SUCCEEDED):
            yield one

    return effect


def nacked(token: int, *, cancels: bool) -> Effect:
    def effect(one: One) -> Iterator[One]:
        phase, held, nacked, top, kept = one
        if held != token:
            return
        if phase == LEASED:
            yield WAITING, token, True, top, True
            yield DEAD, token, True, top, True
            if cancels:
                yield CANCELLED, token, True, top, True
        elif nacked or (not kept and phase in (DEAD, CANCELLED)):
            yield one

    return effect


def released(token: int, *, cancels: bool) -> Effect:
    def effect(one: One) -> Iterator[One]:
        if one[0] == LEASED and one[1] == token:
            yield WAITING, token, False, one[3], True
            if cancels:
                yield CANCELLED, token, False, one[3], True

    return effect


def is_held(token: int) -> Effect:
    def effect(one: One) -> Iterator[One]:
        if one[0] == LEASED and one[1] == token:
            yield one

    return effect


def not_held(token: int) -> Effect:
    def effect(one: One) -> Iterator[One]:
        if one[0] != LEASED or one[1] != token:
            yield one

    return effect


def cancelled(one: One) -> Iterator[One]:
    phase, token, nacked, top, kept = one
    if phase in (WAITING, CANCELLED):
        yield CANCELLED, token, nacked, top, kept


def revived(one: One) -> Iterator[One]:
    if one[0] in FINAL and one[4]:
        yield WAITING, one[1], False, one[3], True


def deleted(one: One) -> Iterator[One]:
    phase, token, nacked, top, kept = one
    if phase == WAITING:
        yield CANCELLED, token, nacked, top, False
    elif phase in FINAL and kept:
        yield phase, token, nacked, top, False


def not_kept(one: One) -> Iterator[One]:
    if one[0] == ABSENT or not one[4]:
        yield one


def viewed(view: JobView) -> Effect:
    phase = PHASE.get(view.state, view.state)

    def effect(one: One) -> Iterator[One]:
        at, token, nacked, top, kept = one
        if at != phase or not kept:
            return
        if token == view.token or (not token and not view.token):
            yield one
        elif not token and view.token > top:
            # Now somebody has seen the lease that nobody had seen.
            yield at, view.token, nacked, view.token, kept

    return effect
