"""Both ends in one place, joined by nothing but bytes."""

from __future__ import annotations

from typing import Any

from headrace.codec.messages import TYPE_NUMBERS, decode_body
from headrace.model.errors import HeadraceError
from headrace.model.handshake import ErrorFrame, Hello, Welcome
from headrace.protocol.connection import ClientConnection, Message, ServerConnection
from headrace.protocol.framing import PREAMBLE, FrameReader, FrameWriter


def to_server(server: ServerConnection, data: bytes) -> list[Message]:
    return list(server.receive(memoryview(data)))


def to_client(client: ClientConnection, data: bytes) -> list[Message]:
    return list(client.receive(memoryview(data)))


def output(end: ServerConnection | ClientConnection) -> bytes:
    return b"".join(end.take_output())


def said(server: ServerConnection) -> list[tuple[int, Any]]:
    """What the server has written, as (request id, message)."""
    frames = FrameReader().frames(memoryview(output(server)))
    return [(request_id, decode_body(kind, body)) for kind, request_id, body in frames]


def framed(message: object, request_id: int = 1) -> bytes:
    writer = FrameWriter()
    writer.add(TYPE_NUMBERS[type(message)], request_id, message)  # type: ignore[index]
    return b"".join(writer.take())


def expecting_hello() -> ServerConnection:
    server = ServerConnection()
    to_server(server, PREAMBLE)
    return server


def greeting() -> ServerConnection:
    """A server that has seen HELLO and not answered it."""
    server = expecting_hello()
    next(server.receive(memoryview(framed(Hello()))))
    return server


def open_server() -> ServerConnection:
    server = greeting()
    server.welcome(1, Welcome())
    output(server)
    return server


def greeted_client() -> ClientConnection:
    """A client that has sent HELLO."""
    client = ClientConnection()
    client.send_hello(Hello())
    output(client)
    return client


def open_client() -> ClientConnection:
    client = greeted_client()
    to_client(client, framed(Welcome()))
    return client


def refusal(server: ServerConnection) -> tuple[int, str]:
    """(request id, code) of the one error that the server has written."""
    [(request_id, message)] = said(server)
    assert isinstance(message, ErrorFrame)
    return request_id, message.code


def fault(end: ServerConnection | ClientConnection) -> type[HeadraceError] | None:
    return None if end.fault is None else type(end.fault)
