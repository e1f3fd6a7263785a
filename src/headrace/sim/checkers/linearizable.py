"""Each job as an object of its own: is there one order of calls that explains all answers?

The judge sees what clients saw and nothing else: no log, no engine. Outcomes that nobody knows
are treated as Jepsen does: they may take effect at any time after the call, or never.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

from headrace.model import commands as c
from headrace.model.job import State
from headrace.model.limits import REMEMBER_MS
from headrace.model.replies import Changed
from headrace.sim.checkers.asked import EXISTING, OK, REFUSED, UNKNOWN, Item
from headrace.sim.checkers.base import Breaches, Checker, Life, is_refused
from headrace.sim.checkers.excuses import is_made_anew, may_have_left_twice
from headrace.sim.checkers.job_model import (
    ABSENT,
    DEAD,
    FINAL,
    LEASED,
    NOTHING,
    SUCCEEDED,
    WAITING,
    Effect,
    States,
    Surroundings,
    ack_refused,
    acked,
    cancelled,
    created,
    deleted,
    existing,
    granted,
    is_held,
    nacked,
    not_held,
    not_kept,
    only,
    released,
    revived,
    viewed,
)
from headrace.sim.history import NEVER, Call, HandlerBegan, PushedLease
from headrace.sim.linearizability import FOR_EVER, Operation, linearize

BEGINNING = -1
_NANOS = 1_000_000

# --- from items of calls to operations


class _Job:
    """All operations on one job."""

    def __init__(self, life: Life, around: Surroundings) -> None:
        self.life = life
        self.around = around
        self.operations: list[Operation[States]] = []

    def read(self, item: Item, effect: Effect, label: str) -> None:
        """It changes nothing; its answer tells where the job stands."""
        self.add(item, effect, label)
        self.operations[-1].is_read = True

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
        step = self.around.step(created, may_not=False)
        self.operations.append(Operation("enqueue", BEGINNING, FOR_EVER, step))

    def grant(self, token: int, seen_ns: int, source: object) -> None:
        step = self.around.step(granted(token), may_not=False)
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
        for job_id, operations in operations_of(life):
            self.jobs += 1
            found = linearize(operations, frozenset([NOTHING]))
            self.configurations += found.configurations
            if found.verdict is None:
                self.undecided += 1
            elif not found.verdict:
                message = f"no order of calls explains: {found.stuck_label}"
                shown = _unique([one.source for one in operations])
                yield self.violation(message, *shown, job_id=job_id, at_ns=_at(found.stuck))


def operations_of(life: Life) -> Iterator[tuple[bytes, list[Operation[States]]]]:
    """All jobs that anybody asked about, each with what was done to it and answered."""
    grants = _grants(life)
    around = _Arounds(life)
    purges = _purges(life)
    nameless = life.asked.nameless or not life.final.all_ids_asked
    for job_id, items in life.asked.of_job.items():
        if is_made_anew(life, job_id):
            continue
        job = _job(life, items, grants.get(job_id, {}), around.of(items))
        if nameless and not any(item.verb == "enqueue" for item in items):
            job.begin()
        for call in purges.get(life.asked.queue_of(job_id, life.ledger), ()):
            is_open = call.reply is None
            label = "purge without an answer" if is_open else "purge"
            job.add(_item(call), deleted, label, may_not=not is_open)
        yield job_id, job.operations


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
        self._takers = [call for call in life.asked.calls(c.Claim) if call.reply is None]
        self._takers += life.asked.calls(c.OpenSession)
        self._workers_unknown = not life.asked.calls(c.OpenSession) and any(
            isinstance(event, PushedLease | HandlerBegan) for event in life.history.events
        )
        self._known: dict[tuple[bool, bool, bool], Surroundings] = {}

    def of(self, items: list[Item]) -> Surroundings:
        start_by = any(
            item.verb == "enqueue"
            and item.new_job.extra is not None
            and item.new_job.extra.start_by_ms
            for item in items
        )
        cancels = any(item.verb == "cancel" for item in items)
        unseen = self._workers_unknown or any(_may_take(call, items) for call in self._takers)
        found = self._known.get((start_by, cancels, unseen))
        if found is None:
            found = self._known[start_by, cancels, unseen] = Surroundings(
                start_by=start_by,
                cancels=cancels,
                unseen=unseen,
                forgets=self._forgets,
            )
        return found


def _may_take(call: Call, items: list[Item]) -> bool:
    """A lease that nobody sees may be granted to this session or claim: it serves the job."""
    command = call.command
    assert isinstance(command, c.OpenSession | c.Claim)
    specs = [item.spec for item in items if item.verb == "enqueue"]
    return not specs or any(
        spec is not None and spec.queue in command.queues and spec.kind in command.kinds
        for spec in specs
    )


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
    for call in life.asked.calls(c.Purge):
        if not is_refused(call):
            found[call.command.queue].append(call)  # type: ignore[attr-defined]
    return found


def _item(call: Call) -> Item:
    return Item(call, "purge", b"")


def _job(
    life: Life,
    items: list[Item],
    tokens: dict[int, tuple[int, object]],
    around: Surroundings,
) -> _Job:
    job = _Job(life, around)
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
        repeated = item.verb in _REPEATED and (item.outcome == REFUSED or revives)
        if repeated and may_have_left_twice(life, item.call):
            _repeated(job, item)
    return job


_REPEATED = frozenset({"ack", "nack", "release", "cancel"})


def _repeated(job: _Job, item: Item) -> None:
    """Clients repeat these over a new connection: the first try may have happened as well."""
    if item.outcome != UNKNOWN and item.call.returned_ns != NEVER:
        label = f"{item.verb} under lease {item.token}, first try"
        job.add(item, _wanted(job, item), label, may_not=True)


def _wanted(job: _Job, item: Item) -> Effect:
    """What the operation does if it happens."""
    cancels, token = job.around.cancels, item.token
    wanted: dict[str, Effect] = {
        "enqueue": created,
        "ack": acked(token),
        "nack": nacked(token, cancels=cancels),
        "release": released(token, cancels=cancels),
        "cancel": cancelled,
        "revive": revived,
        "delete": deleted,
    }
    return wanted[item.verb]


def _enqueue(job: _Job, item: Item) -> None:
    if item.outcome == UNKNOWN:
        job.add_open(item, created, "enqueue")
    elif item.outcome == OK:
        job.add(item, created, "enqueue")
    elif item.outcome == EXISTING:
        assert item.existing is not None
        if item.existing.job_id == item.job_id:
            if may_have_left_twice(job.life, item.call):
                # Its own first try may have made the job that it then found.
                job.add(item, created, "enqueue, first try", may_not=True)
            if not _is_by_key(item):
                _read_existing(job, item, item.existing.state)
    elif item.code == "id_conflict" and item.call.reply is not None:
        job.read(item, existing(0), "enqueue in conflict")


def _read_existing(job: _Job, item: Item, state: int) -> None:
    word = State(state).word if state else "gone"
    job.read(item, existing(state), f"enqueue of an existing job, {word}")


def _is_by_key(item: Item) -> bool:
    """Nothing but the key knows of the job any more: a key may live longer than an id."""
    assert item.existing is not None
    extra = item.new_job.extra
    return item.existing.state == ABSENT and extra is not None and bool(extra.key)


def _claim(job: _Job, item: Item) -> None:
    job.add(item, granted(item.token), f"claim of lease {item.token}")


def _ack(job: _Job, item: Item) -> None:
    if item.outcome == UNKNOWN:
        job.add_open(item, acked(item.token), f"ack of lease {item.token}")
    elif item.outcome == OK:
        job.add(item, acked(item.token), f"ack of lease {item.token}")
    elif item.code in _GONE:
        job.read(item, ack_refused(item.token), f"refused ack of lease {item.token}")


_GONE = frozenset({"stale_lease", "unknown_job"})


def _settle(job: _Job, item: Item) -> None:
    label = f"{item.verb} of lease {item.token}"
    if item.outcome == UNKNOWN:
        job.add_open(item, _wanted(job, item), label)
    elif item.outcome == OK:
        job.add(item, _wanted(job, item), label)
    elif item.code in _GONE:
        job.read(item, not_held(item.token), f"refused {label}")


def _extend(job: _Job, item: Item) -> None:
    if item.outcome == OK:
        job.read(item, is_held(item.token), f"extend of lease {item.token}")
    elif item.code in _GONE:
        job.read(item, not_held(item.token), f"refused extend of lease {item.token}")


def _change(job: _Job, item: Item) -> None:
    verb, reply = item.verb, item.call.reply
    if item.outcome == UNKNOWN:
        if verb in ("cancel", "revive", "delete"):
            job.add_open(item, _wanted(job, item), verb)
    elif item.outcome == OK:
        if verb in ("reschedule", "priority"):
            job.read(item, only(WAITING), verb)
        elif verb == "cancel" and isinstance(reply, Changed) and reply.state == LEASED:
            job.read(item, only(LEASED), "cancel of a leased job")
        else:
            job.add(item, _wanted(job, item), verb)
    elif item.code in _REFUSALS:
        job.read(item, _REFUSALS[item.code][verb], f"{verb} refused as {item.code}")


_REFUSALS: dict[str, dict[str, Effect]] = {
    "wrong_state": {
        "cancel": only(SUCCEEDED, DEAD),
        "reschedule": only(LEASED, *FINAL),
        "priority": only(LEASED, *FINAL),
        "revive": only(WAITING, LEASED),
        "delete": only(LEASED),
    },
    "unknown_job": {
        "cancel": only(ABSENT),
        "reschedule": only(ABSENT),
        "priority": only(ABSENT),
        "revive": not_kept,
        "delete": not_kept,
    },
}


def _read(job: _Job, item: Item) -> None:
    if item.outcome == OK:
        view = getattr(item.call.reply, "job", None)
        if view is not None:
            word = State(view.state).word
            job.read(item, viewed(view), f"{item.verb}: {word} under lease {view.token}")
    elif item.code == "unknown_job":
        job.read(item, not_kept, f"{item.verb}: unknown")


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
