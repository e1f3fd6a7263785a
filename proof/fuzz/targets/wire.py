"""Both ends of a connection, against the tables of the protocol's document.

The oracle below is written from `spec/wire-protocol.md`, sections 3 and 4, and knows
nothing of the machines: what a frame must lead to, frame by frame. Every input is fed
whole and in small pieces, which must come to the same.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgspec

from headrace.codec.messages import MESSAGES, TYPE_NUMBERS, UNANSWERED, encode_body
from headrace.model import commands, handshake
from headrace.model.errors import HeadraceError
from headrace.model.handshake import ErrorFrame, HandOver, Hello, Pong, Welcome
from headrace.model.limits import FRAME_BYTES_MAX, HELLO_BYTES_MAX
from headrace.model.pushes import Push
from headrace.model.replies import Reply
from headrace.protocol.connection import ClientConnection, ServerConnection
from headrace.protocol.framing import HEADER, PREAMBLE
from headrace.protocol.handshake import TokenCheck, negotiate
from headrace.protocol.states import Phase
from proof.fuzz import frames, vectors
from proof.fuzz.target import TAKEN, Target, expect, linear

MODULES = ("headrace/protocol", "headrace/codec/messages")
BYTE_BY_BYTE_MAX = 256
"""Longer inputs are fed in a few random pieces."""

Said = tuple[int, str]
"""(request id, what): a message's type, or an error's code."""


class Seen(msgspec.Struct):
    """What a machine made of its input."""

    messages: list[Said] = []
    errors: list[Said] = []
    """Those that it sent, or was told."""
    closed: bool = False
    values: list[Any] = []

    def shape(self) -> tuple[list[Said], list[Said], bool]:
        return self.messages, self.errors, self.closed


# --- the oracle


def whole_frames(
    data: bytes, frame_bytes_max: int = FRAME_BYTES_MAX
) -> Iterator[tuple[int, int, bytes] | str]:
    """(type, request id, body) of each frame, or the code with which the stream ends."""
    position = 0
    while len(data) - position >= 4:
        length = int.from_bytes(data[position : position + 4], "big")
        if length < 8:
            yield "bad_request"
            return
        if length > frame_bytes_max:
            yield "frame_too_large"
            return
        if len(data) - position < 12:
            return
        _, type_number, flags, request_id = HEADER.unpack_from(data, position)
        if flags:
            yield "unsupported"
            return
        end = position + 4 + length
        if end > len(data):
            return
        yield type_number, request_id, data[position + 12 : end]
        position = end


def fits(type_number: int, body: bytes) -> bool:
    try:
        msgspec.msgpack.decode(body, type=MESSAGES[type_number])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    return True


_REQUESTS = tuple(
    number
    for number, kind in MESSAGES.items()
    if issubclass(kind, commands.Command) or kind in (Pong, HandOver)
)


def server_must(data: bytes) -> Seen:
    """What an open server connection makes of these bytes."""
    seen = Seen()
    for frame in whole_frames(data):
        if isinstance(frame, str):
            seen.errors.append((0, frame))
            seen.closed = True
            break
        type_number, request_id, body = frame
        if type_number not in MESSAGES:
            if request_id:
                seen.errors.append((request_id, "unsupported"))
            continue
        refusal = _server_refuses(type_number, request_id, body)
        if refusal is None:
            seen.messages.append((request_id, MESSAGES[type_number].__name__))
            continue
        seen.errors.append((refusal, "bad_request"))
        if not refusal:
            seen.closed = True
            break
    return seen


def _server_refuses(type_number: int, request_id: int, body: bytes) -> int | None:
    """The request id of the refusal; None when it is none."""
    if type_number not in _REQUESTS:
        return 0
    unanswered = MESSAGES[type_number] in UNANSWERED
    if unanswered != (request_id == 0) or not fits(type_number, body):
        return request_id
    return None


def client_must(data: bytes) -> Seen:
    """What an open client connection makes of these bytes."""
    seen = Seen()
    for frame in whole_frames(data):
        if isinstance(frame, str):
            seen.closed = True
            break
        type_number, request_id, body = frame
        kind = MESSAGES.get(type_number)
        if kind is None:
            continue
        if not _from_server(kind, request_id) or not fits(type_number, body):
            seen.closed = True
            break
        if kind is not ErrorFrame:
            seen.messages.append((request_id, kind.__name__))
        elif request_id:
            seen.messages.append((request_id, "error"))
        else:
            seen.closed = True
            break
    return seen


def _from_server(kind: type[msgspec.Struct], request_id: int) -> bool:
    if kind is ErrorFrame:
        return True
    if issubclass(kind, Reply):
        return request_id != 0
    return issubclass(kind, Push) and request_id == 0


# --- driving the machines


def pieces(data: bytes) -> list[bytes]:
    """Single bytes of a short input, random pieces of a long one; equal for equal input."""
    if len(data) <= BYTE_BY_BYTE_MAX:
        return [data[at : at + 1] for at in range(len(data))]
    chance = random.Random(zlib.crc32(data))
    cuts = sorted({0, len(data), *(chance.randrange(len(data)) for _ in range(12))})
    return [data[start:end] for start, end in pairwise(cuts)]


def served(machine: ServerConnection, parts: list[bytes]) -> Seen:
    """What the machine did; a HELLO is answered as a server does."""
    seen = Seen()
    for part in parts:
        for request_id, message in machine.receive(memoryview(bytearray(part))):
            expect(not machine.is_closed, "a closed connection hands out nothing")
            seen.messages.append((request_id, type(message).__name__))
            seen.values.append(message)
            if type(message) is Hello:
                _answer_hello(machine, request_id, message)
        room = FRAME_BYTES_MAX if machine.phase is Phase.OPEN else HELLO_BYTES_MAX
        expect(machine.unfinished_bytes <= room + 4, "an unfinished frame stays in its bound")
    seen.closed = machine.is_closed
    for frame, body in _frames_out(machine):
        if frame[0] == TYPE_NUMBERS[ErrorFrame]:
            seen.errors.append((frame[1], msgspec.msgpack.decode(body, type=ErrorFrame).code))
    if machine.is_closed:
        list(machine.receive(memoryview(bytes(64))))
        expect(machine.output_bytes == 0, "nothing follows the error that ends a connection")
    return seen


def _answer_hello(machine: ServerConnection, request_id: int, hello: Hello) -> None:
    try:
        version = negotiate(hello, TokenCheck(None))
    except HeadraceError as error:
        machine.refuse(error)
    else:
        machine.welcome(request_id, Welcome(protocol=version))


def _frames_out(machine: ServerConnection) -> Iterator[tuple[tuple[int, int], bytes]]:
    for frame in whole_frames(b"".join(machine.take_output())):
        expect(not isinstance(frame, str), "a server sends whole frames")
        assert not isinstance(frame, str)
        expect(fits(frame[0], frame[2]), "a server sends what a client can read")
        yield (frame[0], frame[1]), frame[2]


def open_server() -> ServerConnection:
    machine = ServerConnection()
    served(machine, [PREAMBLE + frames.Frame(1, 1, encode_body(Hello())).encoded()])
    return machine


def heard(machine: ClientConnection, parts: list[bytes]) -> Seen:
    seen = Seen()
    for part in parts:
        for request_id, message in machine.receive(memoryview(bytearray(part))):
            expect(not machine.is_closed, "a closed connection hands out nothing")
            is_error = isinstance(message, HeadraceError)
            seen.messages.append((request_id, "error" if is_error else type(message).__name__))
            seen.values.append(message)
        expect(machine.unfinished_bytes <= FRAME_BYTES_MAX + 4, "a frame stays in its bound")
    seen.closed = machine.is_closed
    return seen


def greeted_client() -> ClientConnection:
    machine = ClientConnection()
    machine.send_hello(Hello())
    machine.take_output()
    heard(machine, [frames.Frame(2, 1, encode_body(Welcome())).encoded()])
    return machine


# --- the targets


def check_server(data: bytes) -> str:
    seen = served(open_server(), [data])
    again = served(open_server(), pieces(data))
    expect(seen.shape() == again.shape(), "cuts change nothing", whole=seen, cut=again)
    must = server_must(data)
    expect(seen.shape() == must.shape(), "the document is kept", found=seen, must=must)
    _survive_round_trip(seen.values)
    return _outcome(seen)


def check_client(data: bytes) -> str:
    seen = heard(greeted_client(), [data])
    again = heard(greeted_client(), pieces(data))
    expect(seen.shape() == again.shape(), "cuts change nothing", whole=seen, cut=again)
    must = client_must(data)
    expect(seen.shape() == must.shape(), "the document is kept", found=seen, must=must)
    _survive_round_trip([one for one in seen.values if not isinstance(one, HeadraceError)])
    return _outcome(seen)


def check_handshake(data: bytes) -> str:
    seen = served(ServerConnection(), [data])
    again = served(ServerConnection(), pieces(data))
    expect(seen.shape() == again.shape(), "cuts change nothing", whole=seen, cut=again)
    hellos = [said for said in seen.messages if said[1] == "Hello"]
    expect(len(hellos) <= 1, "one HELLO a connection", found=seen)
    expect(all(request_id for request_id, _ in hellos), "HELLO is answered by its id", found=seen)
    if seen.messages:
        expect(seen.messages[0] in hellos, "nothing comes before HELLO", found=seen)
    if not data.startswith(PREAMBLE[: len(data)]):
        expect(seen.closed and not seen.messages, "strangers are turned away", found=seen)
    return _outcome(seen)


def check_welcome(data: bytes) -> str:
    """What a client makes of a server's first words."""

    def machine() -> ClientConnection:
        fresh = ClientConnection()
        fresh.send_hello(Hello())
        return fresh

    seen, again = heard(machine(), [data]), heard(machine(), pieces(data))
    expect(seen.shape() == again.shape(), "cuts change nothing", whole=seen, cut=again)
    if seen.messages:
        expect(seen.messages[0] == (1, "Welcome"), "WELCOME comes first", found=seen)
    return _outcome(seen)


def _survive_round_trip(values: list[Any]) -> None:
    for value in values:
        encoded = encode_body(value)
        again = msgspec.msgpack.decode(encoded, type=type(value))
        expect(encode_body(again) == encoded, "what was taken can be said again", value=value)


def _outcome(seen: Seen) -> str:
    if seen.closed or seen.errors:
        return "refused " + ",".join(sorted({code for _, code in seen.errors}))
    return f"{TAKEN} {','.join(sorted({name for _, name in seen.messages}))}"


def _request_frames() -> list[bytes]:
    return [frame for frame in vectors.wire().values() if _type(frame) in _REQUESTS]


def _server_frames() -> list[bytes]:
    return [frame for frame in vectors.wire().values() if _type(frame) not in _REQUESTS]


def _type(frame: bytes) -> int:
    return int.from_bytes(frame[4:6], "big")


def handshakes() -> list[bytes]:
    flush = vectors.wire()["flush"]
    hellos = [frame for frame in vectors.wire().values() if _type(frame) == 1]
    return [PREAMBLE + frame + flush for frame in hellos] + [PREAMBLE + flush]


def _first_words() -> list[bytes]:
    welcome = _with_id(vectors.wire()["welcome"], 1)
    return [welcome, welcome + vectors.wire()["done"], _with_id(vectors.wire()["error"], 0)]


def _with_id(frame: bytes, request_id: int) -> bytes:
    return frame[:8] + request_id.to_bytes(4, "big") + frame[12:]


def mutate_handshake(chance: random.Random, data: bytes, others: Any) -> bytes:
    if data.startswith(PREAMBLE) and chance.random() < 0.9:
        bare = [other.removeprefix(PREAMBLE) for other in others]
        return PREAMBLE + frames.mutated(chance, data.removeprefix(PREAMBLE), bare)
    return frames.mutated(chance, data, others)


TARGETS = (
    Target("wire-server", _request_frames, check_server, frames.mutated, MODULES, linear, weight=4),
    Target("wire-client", _server_frames, check_client, frames.mutated, MODULES, linear, weight=3),
    Target("wire-handshake", handshakes, check_handshake, mutate_handshake, MODULES, linear),
    Target("wire-welcome", _first_words, check_welcome, frames.mutated, MODULES, linear),
)

assert handshake.PROTOCOL_VERSION == 1, "the oracle is of version 1"
