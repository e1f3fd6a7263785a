"""Where a connection stands, as tables: (phase, input) → next phase.

Everything that moves a connection is here, and nothing here knows bytes. A pair that is
not in its side's table is an offence, and whose offence it is follows from who made the
input: what came from the peer is answered or ends the connection; what came from our own
side is a bug, and raises.
"""

from __future__ import annotations

import enum

from headrace.codec.messages import MESSAGES
from headrace.model.handshake import ErrorFrame, Hello, Welcome
from headrace.model.pushes import Push
from headrace.model.replies import Reply


class _Member(enum.Enum):
    """Hashed by identity: the hash of `Enum` is a Python call, and each frame looks up twice."""

    __hash__ = object.__hash__


class Phase(_Member):
    PREAMBLE = "expects the preamble"
    HELLO = "expects HELLO"
    GREETING = "HELLO is not answered yet"
    OPEN = "open"
    CLOSED = "closed"


class Input(_Member):
    PREAMBLE = "the preamble"
    HELLO = "HELLO"
    WELCOME = "WELCOME"
    REQUEST = "a request"
    REPLY = "a reply"
    PUSH = "a push"
    REFUSAL = "the error that answers one request"
    GOODBYE = "the error that ends a connection"
    UNKNOWN = "a frame of unknown type"


Table = dict[tuple[Phase, Input], Phase]

SERVER: Table = {
    # from the client
    (Phase.PREAMBLE, Input.PREAMBLE): Phase.HELLO,
    (Phase.HELLO, Input.HELLO): Phase.GREETING,
    (Phase.OPEN, Input.REQUEST): Phase.OPEN,
    (Phase.OPEN, Input.UNKNOWN): Phase.OPEN,
    # from the server itself
    (Phase.GREETING, Input.WELCOME): Phase.OPEN,
    (Phase.OPEN, Input.REPLY): Phase.OPEN,
    (Phase.OPEN, Input.PUSH): Phase.OPEN,
    (Phase.OPEN, Input.REFUSAL): Phase.OPEN,
    (Phase.PREAMBLE, Input.GOODBYE): Phase.CLOSED,
    (Phase.HELLO, Input.GOODBYE): Phase.CLOSED,
    (Phase.GREETING, Input.GOODBYE): Phase.CLOSED,
    (Phase.OPEN, Input.GOODBYE): Phase.CLOSED,
    (Phase.CLOSED, Input.GOODBYE): Phase.CLOSED,
}

CLIENT: Table = {
    # from the client itself
    (Phase.PREAMBLE, Input.PREAMBLE): Phase.HELLO,
    (Phase.HELLO, Input.HELLO): Phase.GREETING,
    (Phase.OPEN, Input.REQUEST): Phase.OPEN,
    # from the server: it may refuse before it has read anything, so also before GREETING
    (Phase.GREETING, Input.WELCOME): Phase.OPEN,
    (Phase.OPEN, Input.REPLY): Phase.OPEN,
    (Phase.OPEN, Input.PUSH): Phase.OPEN,
    (Phase.OPEN, Input.REFUSAL): Phase.OPEN,
    (Phase.OPEN, Input.UNKNOWN): Phase.OPEN,
    (Phase.PREAMBLE, Input.GOODBYE): Phase.CLOSED,
    (Phase.HELLO, Input.GOODBYE): Phase.CLOSED,
    (Phase.GREETING, Input.GOODBYE): Phase.CLOSED,
    (Phase.OPEN, Input.GOODBYE): Phase.CLOSED,
}


def _input_of(kind: type) -> Input:
    if kind is Hello:
        return Input.HELLO
    if kind is Welcome:
        return Input.WELCOME
    if kind is ErrorFrame:
        return Input.REFUSAL
    if issubclass(kind, Reply):
        return Input.REPLY
    if issubclass(kind, Push):
        return Input.PUSH
    return Input.REQUEST


_INPUTS = {number: _input_of(kind) for number, kind in MESSAGES.items()}


def input_of(type_number: int, request_id: int) -> Input:
    """What a frame of this type is, whoever sent it."""
    found = _INPUTS.get(type_number, Input.UNKNOWN)
    if found is Input.REFUSAL and request_id == 0:
        return Input.GOODBYE
    return found
