"""A real server in this process, on a real directory and real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from headrace.codec.messages import TYPE_NUMBERS, decode_body
from headrace.model.handshake import Hello
from headrace.model.ids import make_job_id, slot_of_queue
from headrace.model.settings import ServerSettings, Settings
from headrace.protocol.framing import HEADER, LENGTH_BYTES, PREAMBLE, FrameWriter
from headrace.runtime.env import real_env
from headrace.server.compose import RunningServer, serve
from headrace.server.edge import EdgeLimits

DEADLINE_S = 20


class Reports:
    """What the server reported, and a way to wait for it."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._news = asyncio.Event()

    def __call__(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))
        self._news.set()

    async def wait_for(self, event: str) -> dict[str, Any]:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for name, fields in self.events:
                    if name == event:
                        return fields
                self._news.clear()
                await self._news.wait()


@contextlib.contextmanager
def short_directory() -> Iterator[str]:
    """On a disk, and short enough that socket paths fit plainly."""
    with tempfile.TemporaryDirectory(prefix="hr-", dir="/var/tmp") as path:
        yield path


@contextlib.asynccontextmanager
async def running(
    directory: str | Path,
    *,
    limits: EdgeLimits | None = None,
    report: Reports | None = None,
    listen: tuple[str, ...] = ("127.0.0.1:0",),
    drain_ms: int = 0,
    **kwargs: Any,
) -> AsyncIterator[RunningServer]:
    server_settings = kwargs.pop("server", None) or ServerSettings(listen=listen)
    server = await serve(
        kwargs.pop("env", None) or real_env(),
        f"{directory}/data",
        Settings(server=server_settings),
        limits=limits,
        report=report or Reports(),
        **kwargs,
    )
    try:
        yield server
    finally:
        await server.stop(drain_ms)


class RawClient:
    """Bytes over a stream, with a deadline on every wait."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def send_message(self, message: object, request_id: int) -> None:
        self.send(frame(message, request_id))

    async def greet(self, **fields: Any) -> Any:
        """Answer to the preamble and a HELLO with these fields."""
        self.send(PREAMBLE + frame(Hello(**fields), 1))
        return (await self.receive())[1]

    async def receive(self) -> tuple[int, Any]:
        """(request id, message) of the next frame."""
        async with asyncio.timeout(DEADLINE_S):
            header = await self.reader.readexactly(HEADER.size)
            length, type_number, _, request_id = HEADER.unpack(header)
            body = await self.reader.readexactly(length + LENGTH_BYTES - HEADER.size)
        return request_id, decode_body(type_number, body)

    async def at_end(self) -> bytes:
        """Everything up to the end of the stream, a reset included."""
        async with asyncio.timeout(DEADLINE_S):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read(-1)
            return b""

    async def last_words(self) -> Any:
        """The error that the server ends this connection with."""
        request_id, message = await self.receive()
        assert request_id == 0
        assert await self.at_end() == b""
        return message

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError, OSError):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def raw_client(server: RunningServer) -> AsyncIterator[RawClient]:
    client = await open_raw(server)
    try:
        yield client
    finally:
        await client.close()


async def open_raw(server: RunningServer) -> RawClient:
    return RawClient(*await asyncio.open_connection(*tcp_address(server)))


def tcp_address(server: RunningServer) -> tuple[str, int]:
    [url] = [url for url in server.urls if url.startswith("headrace://")]
    host, _, port = url.removeprefix("headrace://").rpartition(":")
    return host, int(port)


def frame(message: object, request_id: int) -> bytes:
    writer = FrameWriter()
    writer.add(TYPE_NUMBERS[type(message)], request_id, message)  # type: ignore[index]
    return b"".join(writer.take())


def new_id(queue: str = "q") -> bytes:
    return make_job_id(1_764_000_000_000, slot_of_queue(queue), os.urandom(8))
