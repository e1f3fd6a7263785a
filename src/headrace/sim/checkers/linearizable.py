"""Each job as an object of its own: is there one order of calls that explains all answers?

The judge sees what clients saw and nothing else: no log, no engine. A job is absent, waiting,
leased under a token, or final; what time and crashes do to it (a lease ends, a lost push is
granted to nobody, retention forgets) may happen between any two calls, so a state of the search
is the set of states in which the job can be. That is permissive where a log would know better,
and exact where it counts: no answer may contradict another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from headrace.model import commands as c
from headrace.model.job import State
from headrace.model.limits import REMEMBER_MS
from headrace.model.replies import Changed, JobView
from headrace.sim.checkers.asked import EXISTING, OK, REFUSED, UNKNOWN, Item
from headrace.sim.checkers.base import Breaches, Checker, Life, is_refused
from headrace.sim.history import NEVER, Call, HandlerBegan, PushedLease
from headrace.sim.linearizability import FOR_EVER, Operation, linearize

ABSENT = 0
WAITING = int(State.READY)
LEASED = int(State.LEASED)
SUCCEEDED = int(State.SUCCEEDED)
DEAD = int(State.DEAD)
CANCELLED = int(State.CANCELLED)
_FINAL = (SUCCEEDED, DEAD, CANCELLED)
_PHASE = {int(State.SCHEDULED): WAITING, int(State.BLOCKED): WAITING}

BEGINNING = -1

One = tuple[int, int, bool, int, bool]
"""(phase, token of its newest lease, that lease ended by nack, highest token seen, kept).

Token 0 is a lease that nobody has seen. A final job that is not kept is remembered by id only."""
States = frozenset[One]
Effect = Callable[[One], Iterable[One]]
"""Where one state may lead; nothing: the answer would be wrong there."""

NOTHING: One = (ABSENT, 0, False, 0, True)
_NANOS = 1_000_000


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

        def step(states: States) -> States | None:
            reached = {after for one in states for after in effect(one)}
            if may_not:
                reached |= states
            return self.closed(frozenset(reached)) if reached else None

        return step


# --- what an operation does to one state, by its answer


def _created(one: One) -> Iterator[One]:
    if one[0] == ABSENT:
        yield WAITING, 0, False, one[3], True


def _existing(state: int) -> Effect:
    phase = _PHASE.get(state, state)

    def effect(one: One) -> Iterator[One]:
        if one[0] != ABSENT and (not phase or one[0] == phase):
            yield one

    return effect


def _only(*phases: int) -> Effect:
    def effect(one: One) -> Iterator[One]:
        if one[0] in phases:
            yield one

    return effect


def _granted(token: int) -> Effect:
    def effect(one: One) -> Iterator[One]:
        if one[0] == WAITING and token > one[3]:
            yield LEASED, token, False, token, True

    return effect


def _acked(token: int) -> Effect:
    def effect(one: One) -> Iterator[One]:
        phase, held, _, top, _ = one
        if held == token:
            if phase == LEASED:
                yield SUCCEEDED, token, False, top, True
            elif phase == SUCCEEDED:
                yield one

    return effect


def _ack_refused(token: int) -> Effect:
    def effect(one: One) -> Iterator[One]:
        if one[1] != token or one[0] not in (LEASED, SUCCEEDED):
            yield one

    return effect


def _nacked(token: int, *, cancels: bool) -> Effect:
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


def _released(token: int, *, cancels: bool) -> Effect:
    def effect(one: One) -> Iterator[One]:
        if one[0] == LEASED and one[1] == token:
            yield WAITING, token, False, one[3], True
            if cancels:
                yield CANCELLED, token, False, one[3], True

    return effect


def _is_held(token: int) -> Effect:
    def effect(one: One) -> Iterator[One]:
        if one[0] == LEASED and one[1] == token:
            yield one

    return effect


def _not_held(token: int) -> Effect:
    def effect(one: One) -> Iterator[One]:
        if one[0] != LEASED or one[1] != token:
            yield one

    return effect


def _cancelled(one: One) -> Iterator[One]:
    phase, token, nacked, top, kept = one
    if phase in (WAITING, CANCELLED):
        yield CANCELLED, token, nacked, top, kept


def _revived(one: One) -> Iterator[One]:
    if one[0] in _FINAL and one[4]:
        yield WAITING, one[1], False, one[3], True


def _deleted(one: One) -> Iterator[One]:
    phase, token, nacked, top, kept = one
    if phase == WAITING:
        yield CANCELLED, token, nacked, top, False
    elif phase in _FINAL and kept:
        yield phase, token, nacked, top, False


def _not_kept(one: One) -> Iterator[One]:
    if one[0] == ABSENT or not one[4]:
        yield one


def _viewed(view: JobView) -> Effect:
    phase = _PHASE.get(view.state, view.state)

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


# --- from items of calls to operations


class _Job:
    """All operations on one job."""

    def __init__(self, around: Surroundings) -> None:
        self.around = around
        self.operations: list[Operation[States]] = []

    def add(self, item: Item, effect: Effect, label: str, *, may_not: bool = False) -> None:
        call = item.call
        returned_ns = call.returned_ns
        if item.outcome == UNKNOWN or returned_ns == NEVER:
            returned_ns = FOR_EVER
        step = self.around.step(effect, may_not=may_not)
        self.operations.append(Operation(label, call.called_ns, returned_ns, step, call))

    def add_open(self, item: Item, effect: Effect, label: str) -> None:
        """Nobody knows whether it happened."""
        step = self.around.step(effect, may_not=False)
        self.operations.append(Operation(label, item.call.called_ns, FOR_EVER, step, item.call))

    def begin(self) -> None:
        """It was made by a call of which nobody knows the id that it got."""
        step = self.around.step(_created, may_not=False)
        self.operations.append(Operation("enqueue", BEGINNING, FOR_EVER, step))

    def grant(self, token: int, seen_ns: int, source: object) -> None:
        step = self.around.step(_granted(token), may_not=False)
        label = f"lease {token} granted"
        self.operations.append(Operation(label, BEGINNING, seen_ns, step, source))


class Linearizable(Checker):
    """Every job by itself; a search that is too long is counted as undecided, not as passed."""

    invariants = ("I3", "I4", "I8")
    clauses = (1, 2, 3, 8)
    promise = "For each job one order of calls explains all answers, as clients saw them."
    needs_log = False

    def __init__(self) -> None:
        self.jobs = 0
        self.undecided = 0
        self.configurations = 0

    def breaches(self, life: Life) -> Breaches:
        grants = _grants(life)
        around = _Arounds(life)
        purges = _purges(life)
        nameless = life.asked.nameless or not life.final.all_ids_asked
        for job_id, items in life.asked.of_job.items():
            tokens = grants.get(job_id, {})
            if len(items) + len(tokens) < 2:
                continue
            job = _job(items, tokens, around.of(items))
            if nameless and not any(item.verb == "enqueue" for item in items):
                job.begin()
            for call in purges.get(_queue_of(items), ()):
                job.add(_item(call), _deleted, "purge", may_not=not _is_open(call))
            yield from self._search(job_id, job)

    def _search(self, job_id: bytes, job: _Job) -> Breaches:
        self.jobs += 1
        found = linearize(job.operations, frozenset([NOTHING]))
        self.configurations += found.configurations
        if found.verdict is None:
            self.undecided += 1
        elif not found.verdict:
            message = f"no order of calls explains: {found.stuck_label}"
            calls = [one.source for one in job.operations]
            shown = _unique(calls)
            yield self.violation(message, *shown, job_id=job_id, at_ns=_at(found.stuck))


def _at(source: object) -> int:
    if isinstance(source, Call):
        return source.returned_ns
    return source.at_ns if isinstance(source, PushedLease | HandlerBegan) else NEVER


def _unique(sources: list[object]) -> list[Call | PushedLease | HandlerBegan]:
    found: dict[int, Call | PushedLease | HandlerBegan] = {}
    for source in sources:
        if isinstance(source, Call | PushedLease | HandlerBegan):
            found[id(source)] = source
    return list(found.values())


class _Arounds:
    """One of each kind for a life, so that closures are worked out once."""

    def __init__(self, life: Life) -> None:
        calls, times = life.history.calls, life.ledger.times
        span_ms = (calls[-1].called_ns - calls[0].called_ns) // _NANOS if calls else 0
        # Log time may have jumped, when the wall clock did and the node began anew.
        log_ms = times[-1][1] - times[0][1] if times else 0
        self._forgets = max(span_ms, log_ms) > REMEMBER_MS // 2
        events, asked = life.history.events, life.asked.of_type
        self._unseen = (
            c.OpenSession in asked
            or any(call.reply is None for call in asked[c.Claim])
            or any(isinstance(event, PushedLease | HandlerBegan) for event in events)
        )
        self._known: dict[tuple[bool, bool], Surroundings] = {}

    def of(self, items: list[Item]) -> Surroundings:
        start_by = any(
            item.verb == "enqueue"
            and item.new_job.extra is not None
            and item.new_job.extra.start_by_ms
            for item in items
        )
        cancels = any(item.verb == "cancel" for item in items)
        found = self._known.get((start_by, cancels))
        if found is None:
            found = self._known[start_by, cancels] = Surroundings(
                start_by=start_by,
                cancels=cancels,
                unseen=self._unseen,
                forgets=self._forgets,
            )
        return found


def _grants(life: Life) -> dict[bytes, dict[int, tuple[int, object]]]:
    """Tokens that workers have seen, and when first."""
    found: defaultdict[bytes, dict[int, tuple[int, object]]] = defaultdict(dict)
    for event in life.history.events:
        kind = type(event)
        if kind is PushedLease or kind is HandlerBegan:
            found[event.job_id].setdefault(event.token, (event.at_ns, event))  # type: ignore[union-attr]
    return found


def _purges(life: Life) -> dict[str, list[Call]]:
    found: defaultdict[str, list[Call]] = defaultdict(list)
    for call in life.asked.of_type[c.Purge]:
        if not is_refused(call):
            found[call.command.queue].append(call)  # type: ignore[attr-defined]
    return found


def _queue_of(items: list[Item]) -> str:
    for item in items:
        if item.verb == "enqueue" and item.spec is not None:
            return item.spec.queue
    return ""


def _item(call: Call) -> Item:
    return Item(call, "purge", b"")


def _is_open(call: Call) -> bool:
    return call.reply is None


def _job(items: list[Item], tokens: dict[int, tuple[int, object]], around: Surroundings) -> _Job:
    job = _Job(around)
    granted = {item.token for item in items if item.verb == "claim"}
    for token, (seen_ns, event) in tokens.items():
        if token not in granted:
            granted.add(token)
            job.grant(token, seen_ns, event)
    revives = any(item.verb == "revive" for item in items)
    for item in items:
        if item.outcome == OK and item.token and item.token not in granted:
            # Who names a lease has been given it, whatever we have seen of that.
            granted.add(item.token)
            job.grant(item.token, item.call.called_ns, item.call)
        _OPERATIONS[item.verb](job, item)
        if item.verb in _REPEATED and (item.outcome == REFUSED or revives):
            _repeated(job, item)
    return job


_REPEATED = frozenset({"ack", "nack", "release", "cancel"})


def _repeated(job: _Job, item: Item) -> None:
    """Clients repeat these over a new connection: the first try may have happened as well."""
    if item.outcome != UNKNOWN and item.call.returned_ns != NEVER:
        job.add(item, _wanted(job, item), f"{item.verb}, first try", may_not=True)


def _wanted(job: _Job, item: Item) -> Effect:
    """What the operation does if it happens."""
    cancels, token = job.around.cancels, item.token
    wanted: dict[str, Effect] = {
        "enqueue": _created,
        "ack": _acked(token),
        "nack": _nacked(token, cancels=cancels),
        "release": _released(token, cancels=cancels),
        "cancel": _cancelled,
        "revive": _revived,
        "delete": _deleted,
    }
    return wanted[item.verb]


def _enqueue(job: _Job, item: Item) -> None:
    if item.outcome == UNKNOWN or item.is_early:
        job.add_open(item, _created, "enqueue")
    elif item.outcome == OK:
        job.add(item, _created, "enqueue")
    elif item.outcome == EXISTING:
        assert item.existing is not None
        if item.existing.job_id == item.job_id:
            # Its own first try may have made the job that it then found.
            job.add(item, _created, "enqueue, first try", may_not=True)
            job.add(item, _existing(item.existing.state), "enqueue of an existing job")
    elif item.code == "id_conflict" and item.call.reply is not None:
        job.add(item, _existing(0), "enqueue in conflict")


def _claim(job: _Job, item: Item) -> None:
    job.add(item, _granted(item.token), f"claim of lease {item.token}")


def _ack(job: _Job, item: Item) -> None:
    if item.outcome == UNKNOWN or item.is_early:
        job.add_open(item, _acked(item.token), f"ack of lease {item.token}")
    elif item.outcome == OK:
        job.add(item, _acked(item.token), f"ack of lease {item.token}")
    elif item.code in _GONE:
        job.add(item, _ack_refused(item.token), f"refused ack of lease {item.token}")


_GONE = frozenset({"stale_lease", "unknown_job"})


def _settle(job: _Job, item: Item) -> None:
    label = f"{item.verb} of lease {item.token}"
    if item.outcome == UNKNOWN:
        job.add_open(item, _wanted(job, item), label)
    elif item.outcome == OK:
        job.add(item, _wanted(job, item), label)
    elif item.code in _GONE:
        job.add(item, _not_held(item.token), f"refused {label}")


def _extend(job: _Job, item: Item) -> None:
    if item.outcome == OK:
        job.add(item, _is_held(item.token), f"extend of lease {item.token}")
    elif item.code in _GONE:
        job.add(item, _not_held(item.token), f"refused extend of lease {item.token}")


def _change(job: _Job, item: Item) -> None:
    verb, reply = item.verb, item.call.reply
    if item.outcome == UNKNOWN:
        if verb in ("cancel", "revive", "delete"):
            job.add_open(item, _wanted(job, item), verb)
    elif item.outcome == OK:
        if verb in ("reschedule", "priority"):
            job.add(item, _only(WAITING), verb)
        elif verb == "cancel" and isinstance(reply, Changed) and reply.state == LEASED:
            job.add(item, _only(LEASED), "cancel of a leased job")
        else:
            job.add(item, _wanted(job, item), verb)
    elif item.code in _REFUSALS:
        job.add(item, _REFUSALS[item.code][verb], f"refused {verb}")


_REFUSALS: dict[str, dict[str, Effect]] = {
    "wrong_state": {
        "cancel": _only(SUCCEEDED, DEAD),
        "reschedule": _only(LEASED, *_FINAL),
        "priority": _only(LEASED, *_FINAL),
        "revive": _only(WAITING, LEASED),
        "delete": _only(LEASED),
    },
    "unknown_job": {
        "cancel": _only(ABSENT),
        "reschedule": _only(ABSENT),
        "priority": _only(ABSENT),
        "revive": _not_kept,
        "delete": _not_kept,
    },
}


def _read(job: _Job, item: Item) -> None:
    if item.outcome == OK:
        view = getattr(item.call.reply, "job", None)
        if view is not None:
            word = State(view.state).word
            job.add(item, _viewed(view), f"{item.verb}: {word} under lease {view.token}")
    elif item.code == "unknown_job":
        job.add(item, _not_kept, f"{item.verb}: unknown")


_OPERATIONS: dict[str, Callable[[_Job, Item], None]] = {
    "enqueue": _enqueue,
    "claim": _claim,
    "ack": _ack,
    "nack": _settle,
    "release": _settle,
    "extend": _extend,
    "cancel": _change,
    "reschedule": _change,
    "priority": _change,
    "revive": _change,
    "delete": _change,
    "get": _read,
    "wait": _read,
}
