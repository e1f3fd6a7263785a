"""What was seen of one simulated life, from outside and in the log: what checkers judge.

Everything is appended in the order in which it happened; `at_ns` is the simulation's one
monotonic time. A call whose answer never came stays open: it may have happened at any time
since, or never, as Jepsen's `:info` operations.

Must never hold anything that the engine may change later.
"""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.model.commands import Command
from headrace.model.errors import HeadraceError
from headrace.model.records import Record
from headrace.model.replies import Reply

NEVER = -1
"""`returned_ns` of a call that is still open when the life ends, or whose caller died."""


class Call(msgspec.Struct):
    """One command of one client, and how it ended."""

    number: int
    """Of the call in its life, from 0."""
    actor: str
    """`client 2`, `worker 1`: calls of one actor may overlap."""
    command: Command
    called_ns: int
    returned_ns: int = NEVER
    reply: Reply | None = None
    """Set: it happened, between call and return."""
    error: HeadraceError | None = None
    """Set: refused. With `OutcomeUnknown` it may have happened; with any other it has not."""


class PushedLease(msgspec.Struct, frozen=True):
    """A job reached a worker's session."""

    at_ns: int
    actor: str
    job_id: bytes
    token: int


class HandlerBegan(msgspec.Struct, frozen=True):
    """A worker's handler was entered."""

    at_ns: int
    actor: str
    job_id: bytes
    token: int
    attempt: int


class HandlerEnded(msgspec.Struct, frozen=True):
    """It returned, raised or was cancelled; not seen of a worker that died."""

    at_ns: int
    actor: str
    job_id: bytes
    token: int


class ToldEnd(msgspec.Struct, frozen=True):
    """Somebody who watches a job was told that it has ended."""

    at_ns: int
    actor: str
    job_id: bytes
    state: int


class Connected(msgspec.Struct, frozen=True):
    """Somebody's connection is a new one: what the server had meant for the last one is lost."""

    at_ns: int
    actor: str


class Recorded(msgspec.Struct, frozen=True):
    """A record in the log, once its commit was durable. A record is seen once, whatever crashes."""

    at_ns: int
    index: int
    now_ms: int
    """Log time of its commit."""
    record: Record


class Happened(msgspec.Struct, frozen=True):
    """A fault, or an event of a node."""

    at_ns: int
    what: str
    """`server killed`, `power cut`, `server ready`, `faults over`, or the name of a report."""
    fields: dict[str, Any] = {}


Event = PushedLease | HandlerBegan | HandlerEnded | ToldEnd | Connected | Recorded | Happened


class History:
    """Calls apart, since they end later than they begin; everything else in order."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.events: list[Event] = []

    def call(self, actor: str, command: Command, at_ns: int) -> Call:
        """A call that is on its way; its caller fills in how it ends."""
        call = Call(len(self.calls), actor, command, at_ns)
        self.calls.append(call)
        return call
