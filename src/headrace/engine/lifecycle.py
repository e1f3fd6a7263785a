"""The lifecycle of a job: one table, (state, verb) → where it goes, or why not.

Nothing else decides whether a job may move, and `move` is the only place where it does.
A pair that the table lacks is an error, not a default.

```
            enqueue                    run_at comes                 claim
 (nothing) ─────────▶ ready ◀──────────────────────── scheduled ◀─┐
      └──────────────────┼──────────────────────────────▲        │ nack (retry),
                         └──▶ leased ── ack ──▶ succeeded         │ release with delay,
                                │ nack, expire, release ──────────┘ expire
                                ├──▶ dead          (attempts exhausted, gave up, crashed)
                                └──▶ cancelled     (cancel was requested)
 leased ── release, nack or expire without a delay ──▶ ready
 ready, scheduled, blocked ── cancel, start-by ──▶ cancelled
 ready, scheduled, blocked ── reschedule ──▶ ready or scheduled
 dead, cancelled, succeeded ── revive ──▶ ready or scheduled
 all but leased ── delete ──▶ (nothing)
```
"""

from __future__ import annotations

import enum

from headrace.engine.job import (
    BLOCKED,
    CANCELLED,
    DEAD,
    LEASED,
    READY,
    SCHEDULED,
    SUCCEEDED,
)
from headrace.model.errors import (
    ClientError,
    InvariantViolated,
    StaleLease,
    WrongState,
)
from headrace.model.ids import id_to_text
from headrace.model.job import State


class Verb(enum.Enum):
    """What may be asked of a job, by a client, its holder or the system."""

    CLAIM = "claim"
    START = "started"
    ACK = "ack"
    NACK = "nack"
    RELEASE = "release"
    EXTEND = "extend"
    PROGRESS = "progress"
    LOG = "log"
    EXPIRE = "expire"
    PROMOTE = "promote"
    START_BY = "start_by"
    CANCEL = "cancel"
    RESCHEDULE = "reschedule"
    CHANGE_PRIORITY = "change_priority"
    REVIVE = "revive"
    DELETE = "delete"


class Allowed(enum.Enum):
    """What the table answers when the verb is granted."""

    MOVES = "moves"
    """The record says where to; see `TARGETS`."""
    STAYS = "stays"


class Refused(enum.Enum):
    """What it answers when not."""

    STALE = "stale_lease"
    WRONG = "wrong_state"
    IGNORED = "ignored"
    """Of the system's own verbs: the job has moved on, and that is well."""


Answer = Allowed | Refused

_WAITING = (SCHEDULED, BLOCKED, READY)
_FINAL = (SUCCEEDED, DEAD, CANCELLED)
_ALL = (*_WAITING, LEASED, *_FINAL)

M, S, STALE, WRONG, IGN = (
    Allowed.MOVES,
    Allowed.STAYS,
    Refused.STALE,
    Refused.WRONG,
    Refused.IGNORED,
)

_ROWS: dict[Verb, tuple[Answer, Answer, Answer, Answer, Answer, Answer, Answer]] = {
    #                     scheduled blocked ready leased succeeded dead  cancelled
    Verb.CLAIM: (IGN, IGN, M, IGN, IGN, IGN, IGN),
    Verb.START: (IGN, IGN, IGN, S, IGN, IGN, IGN),
    Verb.ACK: (STALE, STALE, STALE, M, STALE, STALE, STALE),
    Verb.NACK: (STALE, STALE, STALE, M, STALE, STALE, STALE),
    Verb.RELEASE: (STALE, STALE, STALE, M, STALE, STALE, STALE),
    Verb.EXTEND: (STALE, STALE, STALE, S, STALE, STALE, STALE),
    Verb.PROGRESS: (IGN, IGN, IGN, S, IGN, IGN, IGN),
    Verb.LOG: (IGN, IGN, IGN, S, IGN, IGN, IGN),
    Verb.EXPIRE: (IGN, IGN, IGN, M, IGN, IGN, IGN),
    Verb.PROMOTE: (M, IGN, IGN, IGN, IGN, IGN, IGN),
    Verb.START_BY: (M, M, M, IGN, IGN, IGN, IGN),
    # A leased job stays so until its holder confirms; cancelling twice changes nothing.
    Verb.CANCEL: (M, M, M, S, WRONG, WRONG, S),
    Verb.RESCHEDULE: (M, M, M, WRONG, WRONG, WRONG, WRONG),
    Verb.CHANGE_PRIORITY: (S, S, S, WRONG, WRONG, WRONG, WRONG),
    Verb.REVIVE: (WRONG, WRONG, WRONG, WRONG, M, M, M),
    Verb.DELETE: (M, M, M, WRONG, M, M, M),
}

TABLE: dict[tuple[int, Verb], Answer] = {
    (state, verb): row[column] for verb, row in _ROWS.items() for column, state in enumerate(_ALL)
}
"""Every pair of a state and a verb; the property test walks them all."""


class Rule:
    """One verb's line of the table, laid out for the hot path: `moves[state]`."""

    __slots__ = ("moves", "targets", "verb")

    def __init__(self, verb: Verb, targets: frozenset[int]) -> None:
        self.verb = verb
        self.targets = targets
        """Where it may lead; a job that is deleted leads nowhere."""
        moving = {state for state in _ALL if TABLE[state, verb] is Allowed.MOVES}
        if verb is Verb.CANCEL:
            moving.add(LEASED)
        self.moves = tuple(state in moving for state in range(CANCELLED + 1))


CLAIM = Rule(Verb.CLAIM, frozenset({LEASED}))
ACK = Rule(Verb.ACK, frozenset({SUCCEEDED}))
NACK = Rule(Verb.NACK, frozenset({READY, SCHEDULED, DEAD, CANCELLED}))
RELEASE = Rule(Verb.RELEASE, frozenset({READY, SCHEDULED, CANCELLED, DEAD}))
EXPIRE = Rule(Verb.EXPIRE, frozenset({READY, SCHEDULED, DEAD, CANCELLED}))
PROMOTE = Rule(Verb.PROMOTE, frozenset({READY}))
CANCEL = Rule(Verb.CANCEL, frozenset({CANCELLED}))
"""Of a leased job: once its holder has confirmed."""
RESCHEDULE = Rule(Verb.RESCHEDULE, frozenset({READY, SCHEDULED}))
REVIVE = Rule(Verb.REVIVE, frozenset({READY, SCHEDULED}))
DELETE = Rule(Verb.DELETE, frozenset())


def check(job_id: bytes, state: int, verb: Verb) -> Answer:
    """What the table says, when it grants it. Raises: `StaleLease`, `WrongState`."""
    answer = TABLE[state, verb]
    if answer is STALE or answer is WRONG:
        raise refusal(job_id, state, verb, answer)
    return answer


def refusal(job_id: bytes, state: int, verb: Verb, answer: Answer) -> ClientError:
    """The error of a refused pair, in words for the one who asked."""
    name, word = id_to_text(job_id), State(state).word
    if answer is Refused.STALE:
        return StaleLease(
            f"Job {name} is {word}: the lease named by this {verb.value} has ended.",
            hint="Drop the job; somebody else decides about it now.",
        )
    return WrongState(
        f"Job {name} is {word}, which does not allow {verb.value}.",
        hint=_REMEDIES.get(verb, ""),
    )


_REMEDIES = {
    Verb.CANCEL: "It has ended already.",
    Verb.RESCHEDULE: "Only waiting jobs can be moved in time; revive a dead one.",
    Verb.CHANGE_PRIORITY: "Only waiting jobs can change priority.",
    Verb.REVIVE: "Only final jobs can be revived.",
    Verb.DELETE: "Cancel it first; a leased job belongs to its worker.",
}


def illegal(state: int, verb: Verb, job_id: bytes) -> InvariantViolated:
    """A record asks for what the table does not grant: a bug, or a log that lies."""
    return InvariantViolated(
        f"record {verb.value} met job {id_to_text(job_id)} in state {State(state).word}"
    )
