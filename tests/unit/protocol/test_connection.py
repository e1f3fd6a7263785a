"""Both machines: what each phase allows, and what the other side's mistakes lead to."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from headrace.codec.messages import MESSAGES, TYPE_NUMBERS
from headrace.model.commands import Flush, GetJob, Started
from headrace.model.errors import (
    BadRequest,
    Draining,
    FrameTooLarge,
    InvariantViolated,
    StaleLease,
    UnknownJob,
    Unsupported,
    UnsupportedVersion,
)
from headrace.model.handshake import ErrorFrame, Hello, Pong, Welcome
from headrace.model.limits import FRAME_BYTES_MAX, HELLO_BYTES_MAX
from headrace.model.pushes import PingPushed
from headrace.model.replies import Done, JobReply, JobView
from headrace.protocol.connection import ClientConnection, ServerConnection
from headrace.protocol.framing import HEADER, PREAMBLE
from headrace.protocol.states import CLIENT, SERVER, Input, Phase, input_of
from tests.unit.codec.wire_samples import REGISTRY, SAMPLES, VECTORS, frame_of
from tests.unit.protocol.ends import (
    expecting_hello,
    fault,
    framed,
    greeted_client,
    greeting,
    open_client,
    open_server,
    output,
    refusal,
    said,
    to_client,
    to_server,
)

NAMES: list[str] = json.loads(REGISTRY.read_text(encoding="utf-8"))["vectors"]
SERVERS: dict[Phase, Callable[[], ServerConnection]] = {
    Phase.PREAMBLE: ServerConnection,
    Phase.HELLO: expecting_hello,
    Phase.GREETING: greeting,
    Phase.OPEN: open_server,
}
REMOTE_TO_SERVER = {Input.HELLO, Input.REQUEST}
REMOTE_TO_CLIENT = {Input.WELCOME, Input.REPLY, Input.PUSH, Input.REFUSAL, Input.GOODBYE}
ONE_OF_EACH: dict[Input, tuple[Any, int]] = {
    Input.HELLO: (Hello(), 1),
    Input.WELCOME: (Welcome(), 1),
    Input.REQUEST: (Flush(), 7),
    Input.REPLY: (Done(), 7),
    Input.PUSH: (PingPushed(1), 0),
    Input.REFUSAL: (ErrorFrame("unknown_job"), 7),
    Input.GOODBYE: (ErrorFrame("draining"), 0),
}


# --- the tables


@pytest.mark.parametrize("phase", [Phase.HELLO, Phase.GREETING, Phase.OPEN])
@pytest.mark.parametrize("step", list(ONE_OF_EACH))
def test_server_takes_from_the_wire_what_its_table_grants_a_client(
    phase: Phase, step: Input
) -> None:
    server = SERVERS[phase]()
    message, request_id = ONE_OF_EACH[step]
    received = [found for _, found in to_server(server, framed(message, request_id))]

    if step in REMOTE_TO_SERVER and (phase, step) in SERVER:
        assert received == [message]
        assert server.phase is SERVER[phase, step]
    else:
        assert received == []
        assert server.phase is Phase.CLOSED
        assert refusal(server) == (0, "bad_request")


@pytest.mark.parametrize("phase", [Phase.GREETING, Phase.OPEN])
@pytest.mark.parametrize("step", list(ONE_OF_EACH))
def test_client_takes_from_the_wire_what_its_table_grants_a_server(
    phase: Phase, step: Input
) -> None:
    client = greeted_client() if phase is Phase.GREETING else open_client()
    message, request_id = ONE_OF_EACH[step]
    to_client(client, framed(message, request_id))

    if step in REMOTE_TO_CLIENT and (phase, step) in CLIENT:
        assert client.phase is CLIENT[phase, step]
        assert fault(client) is (Draining if step is Input.GOODBYE else None)
    else:
        assert client.phase is Phase.CLOSED
        assert fault(client) is BadRequest


@pytest.mark.parametrize("phase", list(SERVERS))
def test_server_that_says_what_its_phase_forbids_has_a_bug(phase: Phase) -> None:
    acts: dict[Input, Callable[[ServerConnection], None]] = {
        Input.WELCOME: lambda server: server.welcome(1, Welcome()),
        Input.REPLY: lambda server: server.send_reply(7, Done()),
        Input.PUSH: lambda server: server.send_push(PingPushed(1)),
        Input.REFUSAL: lambda server: server.send_error(7, UnknownJob()),
    }
    for step, act in acts.items():
        server = SERVERS[phase]()
        output(server)
        if (phase, step) in SERVER:
            act(server)
            assert output(server)
        else:
            with pytest.raises(InvariantViolated):
                act(server)
            assert output(server) == b""


def test_client_that_speaks_before_welcome_has_a_bug() -> None:
    with pytest.raises(InvariantViolated):
        greeted_client().send_request(7, Flush())
    with pytest.raises(InvariantViolated):
        ClientConnection().send_request(7, Flush())
    with pytest.raises(InvariantViolated):
        greeted_client().send_hello(Hello())


def test_client_that_numbers_what_is_not_answered_has_a_bug() -> None:
    with pytest.raises(InvariantViolated):
        open_client().send_request(7, Started([]))
    with pytest.raises(InvariantViolated):
        open_client().send_request(0, Flush())


def test_every_type_is_of_one_input() -> None:
    kinds = {number: input_of(number, 1) for number in MESSAGES}

    assert Input.UNKNOWN not in kinds.values()
    assert input_of(0x7FFF, 1) is Input.UNKNOWN
    assert input_of(TYPE_NUMBERS[ErrorFrame], 0) is Input.GOODBYE


# --- preamble and handshake


def test_preamble_may_come_in_pieces_and_with_hello() -> None:
    for cut in range(1, 20):
        data = PREAMBLE + framed(Hello(client_name="x"))
        server = ServerConnection()
        found = to_server(server, data[:cut]) + to_server(server, data[cut:])

        assert found == [(1, Hello(client_name="x"))]
        assert server.phase is Phase.GREETING


@pytest.mark.parametrize("junk", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"*1\r\n", b"\x00HRX"])
def test_stranger_is_told_at_the_first_wrong_byte(junk: bytes) -> None:
    server = ServerConnection()

    assert to_server(server, junk) == []
    assert server.phase is Phase.CLOSED
    assert refusal(server) == (0, "bad_request")


def test_hello_over_its_own_limit_is_refused() -> None:
    server = expecting_hello()
    to_server(server, HEADER.pack(HELLO_BYTES_MAX + 1, 0x01, 0, 1))

    assert refusal(server) == (0, "frame_too_large")


def test_request_behind_hello_in_the_same_read_is_taken_once_hello_is_answered() -> None:
    server = expecting_hello()
    found = []
    for request_id, message in server.receive(memoryview(framed(Hello()) + framed(Flush(), 2))):
        found.append((request_id, message))
        if isinstance(message, Hello):
            server.welcome(request_id, Welcome())

    assert found == [(1, Hello()), (2, Flush())]


def test_nothing_behind_a_refused_hello_is_handed_out() -> None:
    server = expecting_hello()
    found = []
    for _, message in server.receive(memoryview(framed(Hello()) + framed(Flush(), 2))):
        found.append(message)
        server.refuse(BadRequest("no"))

    assert found == [Hello()]
    assert to_server(server, framed(Flush(), 3)) == []


def test_hello_that_does_not_decode_ends_the_connection() -> None:
    server = expecting_hello()
    to_server(server, HEADER.pack(9, 0x01, 0, 1) + b"\xc1")

    assert refusal(server) == (0, "bad_request")


def test_client_refuses_a_version_that_it_did_not_offer() -> None:
    client = greeted_client()

    assert to_client(client, framed(Welcome(protocol=9))) == []
    assert fault(client) is UnsupportedVersion


# --- requests that are wrong


@pytest.mark.parametrize(
    "body",
    [b"\xc1", b"\xc0", b"\x90", b"\x91\x01", b"\x91\xc4\xff", b"\x92\xc4\x00\xc3\xc3", b""],
    ids=["reserved", "nil", "no_fields", "wrong_type", "cut", "trailing", "empty"],
)
def test_body_that_does_not_decode_is_answered_and_the_connection_lives(body: bytes) -> None:
    server = open_server()
    frame = HEADER.pack(8 + len(body), TYPE_NUMBERS[GetJob], 0, 7) + body

    assert to_server(server, frame + framed(Flush(), 8)) == [(8, Flush())]
    assert server.phase is Phase.OPEN
    assert refusal(server) == (7, "bad_request")


def test_deeply_nested_body_is_a_bad_request() -> None:
    """In a field that this version does not know, where no type bounds the depth."""
    server = open_server()
    body = b"\x93" + b"\xc4\x10" + b"i" * 16 + b"\xc3" + b"\x91" * 500_000 + b"\xc0"
    frame = HEADER.pack(8 + len(body), TYPE_NUMBERS[GetJob], 0, 7) + body

    assert to_server(server, frame) == []
    assert refusal(server) == (7, "bad_request")


@pytest.mark.parametrize(
    "marker", [b"\xdd", b"\xdf", b"\xc6", b"\xdb"], ids=["array", "map", "bin", "str"]
)
@pytest.mark.parametrize("type_number", [0x10, 0x22, 0x35, 0x43, 0x50])
def test_claimed_size_inside_a_body_allocates_nothing(marker: bytes, type_number: int) -> None:
    """Four billion elements, as the first, the second and an unknown field."""
    server = open_server()
    tracemalloc.start()
    try:
        for fields in (b"\x91", b"\x92\x90", b"\x92\xc4\x00", b"\x9f" + b"\xc0" * 8):
            body = fields + marker + b"\xff" * 4
            frame = HEADER.pack(8 + len(body), type_number, 0, 7) + body
            assert to_server(server, frame) == []
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert {error.code for _, error in said(server)} == {"bad_request"}
    assert peak_bytes < 200_000


def test_unanswered_message_that_does_not_decode_ends_the_connection() -> None:
    server = open_server()
    to_server(server, HEADER.pack(9, TYPE_NUMBERS[Started], 0, 0) + b"\xc1")

    assert refusal(server) == (0, "bad_request")
    assert server.phase is Phase.CLOSED


def test_unknown_type_is_answered_by_its_id_and_ignored_without_one() -> None:
    server = open_server()
    frames = HEADER.pack(9, 0x7F, 0, 7) + b"\x90" + HEADER.pack(9, 0x7E, 0, 0) + b"\x90"

    assert to_server(server, frames + framed(Flush(), 8)) == [(8, Flush())]
    assert refusal(server) == (7, "unsupported")


def test_answered_request_without_an_id_ends_the_connection() -> None:
    server = open_server()
    to_server(server, framed(Flush(), 0))

    assert refusal(server) == (0, "bad_request")


def test_unanswered_message_with_an_id_is_refused_by_it() -> None:
    server = open_server()
    to_server(server, framed(Started([]), 7))

    assert refusal(server) == (7, "bad_request")
    assert server.phase is Phase.OPEN


def test_unknown_flag_ends_the_connection_as_unsupported() -> None:
    server = open_server()
    to_server(server, HEADER.pack(9, 0x58, 1, 7) + b"\x90")

    assert refusal(server) == (0, "unsupported")
    assert fault(server) is Unsupported


def test_requests_before_a_faulty_frame_are_handed_out() -> None:
    server = open_server()
    data = framed(Flush(), 7) + HEADER.pack(0, 0, 0, 0)

    assert to_server(server, data) == [(7, Flush())]
    assert server.phase is Phase.CLOSED


@pytest.mark.parametrize("name", NAMES)
def test_no_damaged_byte_breaks_the_server(name: str) -> None:
    """Each byte flipped: a message, a refusal or an end, and never an exception."""
    whole = bytes.fromhex(json.loads((VECTORS / f"{name}.json").read_text("utf-8"))["frame"])
    for position in range(len(whole)):
        for mask in (0x01, 0x80, 0xFF):
            damaged = bytearray(whole)
            damaged[position] ^= mask
            server, client = open_server(), open_client()
            to_server(server, bytes(damaged))
            to_client(client, bytes(damaged))

            assert server.phase in (Phase.OPEN, Phase.CLOSED)
            assert (server.fault is None) == (server.phase is Phase.OPEN)
            assert (client.fault is None) == (client.phase is Phase.OPEN)


def test_each_request_of_the_vectors_reaches_the_server() -> None:
    for name, message in SAMPLES.items():
        if input_of(TYPE_NUMBERS[type(message)], 1) is Input.REQUEST:
            [(_, found)] = to_server(open_server(), frame_of(message))
            assert found == message, name


# --- answers


def test_refusal_comes_as_the_error_of_its_code() -> None:
    server, client = open_server(), open_client()
    error = StaleLease("gone", hint="forget it", token=4711)
    error.index = 99
    server.send_error(7, error)
    [(request_id, found)] = to_client(client, output(server))

    assert request_id == 7
    assert type(found) is StaleLease
    assert (found.message, found.hint, found.details) == ("gone", "forget it", {"token": 4711})
    assert found.index == 99


def test_code_of_a_later_version_keeps_its_family() -> None:
    cases = [
        (ErrorFrame("new", outcome="unknown"), "outcome_unknown"),
        (ErrorFrame("new", retry_after_ms=5), "overloaded"),
        (ErrorFrame("new"), "bad_request"),
    ]
    for frame, code in cases:
        [(_, found)] = to_client(open_client(), framed(frame, 7))
        assert (found.code, found.details["code"]) == (code, "new")


def test_details_that_cannot_travel_are_left_out() -> None:
    server = open_server()
    server.send_error(7, BadRequest("no", what=object()))
    [(_, frame)] = said(server)

    assert (frame.message, frame.details) == ("no", None)


def test_details_named_like_a_field_do_not_confuse_the_client() -> None:
    frame = ErrorFrame("draining", "m", details={"message": 1, "hint": 2, "self": 3, "x": 4})
    [(_, found)] = to_client(open_client(), framed(frame, 7))

    assert found.message == "m"
    assert found.details["x"] == 4


def test_reply_that_fits_no_frame_becomes_a_refusal() -> None:
    server = open_server()
    job = JobView(b"i" * 16, "q", "k", 3, 100, 0, 8, 0, payload=bytes(FRAME_BYTES_MAX))
    server.send_reply(7, JobReply(1, 1, job))

    assert refusal(server) == (7, "frame_too_large")


def test_call_that_fits_no_frame_is_not_sent() -> None:
    client = open_client()
    with pytest.raises(FrameTooLarge):
        client.send_request(7, GetJob(bytes(FRAME_BYTES_MAX)))

    assert output(client) == b""


def test_last_words_are_said_once() -> None:
    server = open_server()
    server.refuse(Draining("bye"))
    server.refuse(Draining("bye"))

    assert refusal(server) == (0, "draining")


def test_ping_is_answered_with_its_time() -> None:
    server, client = open_server(), open_client()
    server.send_push(PingPushed(123))
    [(_, ping)] = to_client(client, output(server))
    client.send_pong(ping.now_ms)

    assert to_server(server, output(client)) == [(0, Pong(123))]
