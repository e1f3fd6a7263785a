"""The transport's own speed: the same frame to another process and back, nothing decoded.

As a script it is that other process: uvloop, one protocol, what comes goes back.
"""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop

from headrace.codec.messages import TYPE_NUMBERS
from headrace.model.commands import Enqueue
from headrace.protocol.framing import FrameWriter


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)  # type: ignore[attr-defined]


class _Asking(asyncio.Protocol):
    """Sends the frame again as soon as all of it is back."""

    def __init__(self, frame: bytes, ended: asyncio.Future[None], for_s: float) -> None:
        self.samples: list[float] = []
        self._frame = frame
        self._ended = ended
        self._missing = 0
        self._end_s = time.monotonic() + for_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._missing -= len(data)
        if self._missing:
            return
        now_s = time.monotonic()
        self.samples.append(now_s - self._began_s)
        if now_s < self._end_s:
            self._ask()
        elif not self._ended.done():
            self._ended.set_result(None)

    def _ask(self) -> None:
        self._began_s = time.monotonic()
        self._missing = len(self._frame)
        self._transport.write(self._frame)  # type: ignore[attr-defined]


async def measure_echo(command: Enqueue, for_s: float) -> list[float]:
    """Seconds of each round trip, one after the other for that long."""
    writer = FrameWriter()
    writer.add(TYPE_NUMBERS[Enqueue], 1, command)
    frame = b"".join(writer.take())
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        transport, asking = await loop.create_connection(
            lambda: _Asking(frame, ended, for_s), "127.0.0.1", port
        )
        await ended
        transport.close()
        return asking.samples
    finally:
        process.terminate()
        await process.wait()


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Echo, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
