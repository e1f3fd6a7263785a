"""What a connection costs that does nothing: 10,000 of them must stay under 100 MiB."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from headrace.model.handshake import Hello
from headrace.protocol.framing import PREAMBLE
from tests.unit.server.harness import DEADLINE_S, frame, short_directory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

CONNECTIONS = 2_000
BYTES_EACH_MAX = 10 * 1024
SERVER = """
import asyncio, sys
import uvloop
from headrace.model.settings import ServerSettings, Settings
from headrace.runtime.env import real_env
from headrace.server.compose import serve

async def main():
    settings = Settings(server=ServerSettings(listen=("127.0.0.1:0",)))
    server = await serve(real_env(), sys.argv[1], settings)
    print(server.urls[1].rpartition(":")[2], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(0)

uvloop.run(main())
"""


class Idle(asyncio.Protocol):
    """Says HELLO and nothing more."""

    def __init__(self) -> None:
        self.welcomed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(PREAMBLE + frame(Hello(), 1))

    def data_received(self, data: bytes) -> None:
        if not self.welcomed.done():
            self.welcomed.set_result(None)


@contextlib.contextmanager
def many_open_files() -> Iterator[None]:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < CONNECTIONS + 200:
        pytest.skip(f"only {hard} open files are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


async def test_idle_connection_costs_little_memory() -> None:
    with many_open_files(), short_directory() as directory:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, f"{directory}/data"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            before_bytes = resident_bytes(process.pid)
            clients = await asyncio.wait_for(_connect(port), DEADLINE_S)
            each_bytes = (resident_bytes(process.pid) - before_bytes) / CONNECTIONS

            assert each_bytes < BYTES_EACH_MAX
            for client in clients:
                assert client.transport is not None
                client.transport.close()
        finally:
            process.stdin.close()
            assert process.wait(DEADLINE_S) == 0
            process.stdout.close()


async def _connect(port: int) -> list[Idle]:
    loop = asyncio.get_running_loop()
    clients = []
    for _ in range(CONNECTIONS):
        _, client = await loop.create_connection(Idle, "127.0.0.1", port)
        clients.append(client)
    for client in clients:
        await client.welcomed
    return clients
