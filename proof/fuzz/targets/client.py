"""A client's connection with calls under way, and a server that says anything.

Each caller gets the reply that its request has by the document, or one of headrace's own
errors, and gets it once; when the connection is over nobody still waits.
"""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

from headrace.client.connection import Call, Connection, Listener
from headrace.codec.messages import ANSWERS, MESSAGES, decode_body, encode_body
from headrace.model.errors import CannotConnect, HeadraceError
from headrace.model.handshake import ErrorFrame, Hello, Welcome
from headrace.model.limits import READ_BUFFER_BYTES
from headrace.model.pushes import PingPushed, Push
from headrace.model.replies import Reply
from proof.fuzz import frames, vectors
from proof.fuzz.arcs import unwatched
from proof.fuzz.server_world import MemoryTransport
from proof.fuzz.target import TAKEN, Target, expect, linear

MODULES = ("headrace/client/connection", "headrace/protocol", "headrace/codec/messages")


class _Listening(Listener):
    """Notes what it is told; a call is told of once."""

    def __init__(self) -> None:
        self.told: dict[int, str] = {}
        self.pushes: list[str] = []

    def on_reply(self, call: Call, reply: Reply) -> None:
        kind = ANSWERS[type(call.command)]
        expect(type(reply) is kind, "the reply is that of its request", reply=reply)
        self._tell(call, type(reply).__name__)
        super().on_reply(call, reply)

    def on_refusal(self, call: Call, error: HeadraceError) -> None:
        self._tell(call, "refused")
        super().on_refusal(call, error)

    def on_push(self, push: Push) -> None:
        is_ours = isinstance(push, Push) and type(push) is not PingPushed
        expect(is_ours, "a push is a push, and a ping is answered below", push=push)
        self.pushes.append(type(push).__name__)

    def _tell(self, call: Call, what: str) -> None:
        expect(id(call) not in self.told, "a call is answered once", call=call.command)
        self.told[id(call)] = what


@cache
def _commands() -> tuple[Any, ...]:
    """One of each request that is answered, from the vectors."""
    found: dict[int, Any] = {}
    for number, body in vectors.wire_bodies().values():
        if MESSAGES[number] in ANSWERS:
            found.setdefault(number, decode_body(number, body))
    return tuple(found[number] for number in sorted(found))


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def check_calls(data: bytes) -> str:
    return _loop().run_until_complete(_answered(data))


async def _answered(data: bytes) -> str:
    with unwatched():
        listener = _Listening()
        connection = Connection(Hello(), listener)
        connection.connection_made(MemoryTransport())
        _feed(connection, frames.Frame(2, 1, encode_body(Welcome())).encoded())
        futures = [connection.request(command) for command in _commands()]
    _feed(connection, data)
    with unwatched():
        open_after = connection.open
        left = len(connection.calls)
        told = sum(future.done() for future in futures)
        expect(told + left == len(futures) or not open_after, "a call waits, or was told")
        connection.abort(CannotConnect("over"))
        outcomes = sorted({_outcome(future) for future in futures})
    state = TAKEN if open_after else "refused: closed"
    return f"{state} {outcomes} {sorted(set(listener.pushes))}"


def _feed(connection: Connection, data: bytes) -> None:
    for at in range(0, len(data), READ_BUFFER_BYTES):
        part = data[at : at + READ_BUFFER_BYTES]
        connection.get_buffer(-1)[: len(part)] = part
        connection.buffer_updated(len(part))


def _outcome(future: asyncio.Future[Any]) -> str:
    expect(future.done(), "nobody waits for a connection that is over")
    error = future.exception()
    if error is None:
        return type(future.result()).__name__
    expect(isinstance(error, HeadraceError), "callers get our errors", error=error)
    return type(error).__name__


def seeds() -> list[bytes]:
    """Each reply under the request ids of those who wait for one, and each push."""
    ids: dict[type, list[int]] = {}
    for request_id, command in enumerate(_commands(), 2):
        ids.setdefault(ANSWERS[type(command)], []).append(request_id)
    found = []
    for frame in vectors.wire().values():
        kind = MESSAGES[int.from_bytes(frame[4:6], "big")]
        if issubclass(kind, Push):
            found.append(frame)
        elif kind is ErrorFrame:
            found += [_under(frame, 0), _under(frame, 2)]
        elif issubclass(kind, Reply):
            found += [_under(frame, request_id) for request_id in ids.get(kind, [])[:2]]
    return found


def _under(frame: bytes, request_id: int) -> bytes:
    return frame[:8] + request_id.to_bytes(4, "big") + frame[12:]


TARGETS = (
    Target(
        "client-calls", seeds, check_calls, frames.mutated, MODULES, linear,
        exhaustive_bytes_max=0, sampled=60, weight=2,
    ),
)  # fmt: skip
