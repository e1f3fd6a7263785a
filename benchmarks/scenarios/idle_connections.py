"""10,000 connections that have said HELLO and nothing since: the server's memory for them."""

from __future__ import annotations

import asyncio

from harness.bench import Bench, settle
from harness.scenario import Figures, Goal, Scenario

from headrace.client.connection import parse_url
from headrace.model.handshake import Hello
from headrace.protocol.connection import ClientConnection
from headrace.protocol.states import Phase

CONNECTIONS = 10_000
AT_A_TIME = 200


class Quiet(asyncio.Protocol):
    """Shakes hands, and then only reads."""

    def __init__(self, opened: asyncio.Future[None]) -> None:
        self._machine = ClientConnection()
        self._machine.send_hello(Hello())
        self._opened = opened

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        for chunk in self._machine.take_output():
            transport.write(chunk)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        for _ in self._machine.receive(memoryview(data)):
            pass
        if self._machine.phase is Phase.OPEN and not self._opened.done():
            self._opened.set_result(None)


async def measure(bench: Bench) -> Figures:
    figures = await bench.surroundings()
    count = max(AT_A_TIME, int(CONNECTIONS * bench.sizes.scale))
    loop = asyncio.get_running_loop()
    async with bench.server() as server, bench.client(server) as client:
        address = parse_url(server.url)
        await bench.begin(server, client)
        rss_bytes = server.usage().rss_bytes
        transports = []
        for _ in range(0, count, AT_A_TIME):
            opened = [loop.create_future() for _ in range(AT_A_TIME)]
            made = await asyncio.gather(
                *(
                    loop.create_connection(lambda one=one: Quiet(one), address.host, address.port)
                    for one in opened
                )
            )
            transports += [transport for transport, _ in made]
            await asyncio.gather(*opened)
        await settle(1.0)
        grown_bytes = server.usage().rss_bytes - rss_bytes
        figures |= await bench.end(server, client)
        for transport in transports:
            transport.abort()
    figures |= {
        "connections": len(transports),
        "grown_mib": grown_bytes / (1 << 20),
        "bytes_a_connection": grown_bytes / len(transports),
    }
    return figures


SCENARIO = Scenario(
    name="idle-connections",
    title="10,000 idle connections",
    conditions={"connections": CONNECTIONS},
    goals=(Goal("grown_mib", 100),),
    measure=measure,
    shown=("connections", "bytes_a_connection", "server_rss_mib"),
)
