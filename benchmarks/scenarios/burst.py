"""1,000 connections that come at one moment, each with 10 jobs, each job a call of its own.

Every latency counts from that one moment, connecting and HELLO included; then the same
burst again over the connections that stand.
"""

from __future__ import annotations

import asyncio
import time

from harness.bench import QUEUE, Bench
from harness.figures import spread
from harness.scenario import Figures, Goal, Scenario

from headrace.client.connection import Connection, Listener, connect, parse_url
from headrace.client.job_ids import JobIdMaker
from headrace.model.commands import Enqueue, NewJob
from headrace.model.errors import CannotConnect
from headrace.model.handshake import Hello
from headrace.model.ids import slot_of_queue
from headrace.model.job import JobSpec

CONNECTIONS = 1_000
JOBS = 10
CONNECT_MS = 30_000
SPEC = JobSpec(QUEUE, "noop")


class Burst:
    """Jobs enqueued at one moment, and when each was acknowledged."""

    def __init__(self, bench: Bench) -> None:
        self.latencies_s: list[float] = []
        self._bench = bench
        self._ids = JobIdMaker(bench.env)
        self._slot = slot_of_queue(QUEUE)
        self._began_s = time.perf_counter()

    async def enqueue(self, connection: Connection) -> None:
        """All of a connection's jobs are acknowledged."""
        calls = []
        for _ in range(JOBS):
            job = NewJob(self._ids.make(self._slot), 0, self._bench.payload())
            call = connection.request(Enqueue([SPEC], [job]))
            call.add_done_callback(self._acknowledged)
            calls.append(call)
        await asyncio.gather(*calls)

    def _acknowledged(self, _: object) -> None:
        self.latencies_s.append(time.perf_counter() - self._began_s)


async def measure(bench: Bench) -> Figures:
    figures = await bench.surroundings()
    count = max(10, int(CONNECTIONS * bench.sizes.scale))
    async with bench.server() as server, bench.client(server) as client:
        await bench.begin(server, client)
        connections: list[Connection] = []
        fresh = Burst(bench)

        async def come() -> None:
            made, _ = await connect(
                bench.env.network, parse_url(server.url), Hello(), Listener(), CONNECT_MS
            )
            connections.append(made)
            await fresh.enqueue(made)

        await asyncio.gather(*(come() for _ in range(count)))
        standing = Burst(bench)
        await asyncio.gather(*map(standing.enqueue, connections))
        figures |= await bench.end(server, client)
        found = (await client.get_queue(QUEUE)).enqueued_total
        for connection in connections:
            connection.close(CannotConnect("The benchmark is over."))
    figures |= spread("job", fresh.latencies_s) | spread("standing_job", standing.latencies_s)
    figures |= {"connections": count, "missing_jobs": 2 * count * JOBS - found}
    return figures


SCENARIO = Scenario(
    name="burst",
    title="1,000 connections with 10 jobs each at one moment",
    conditions={"durability": "group", "payload_bytes": 100, "connections": CONNECTIONS},
    goals=(Goal("job_p99_ms", 1_000), Goal("missing_jobs", 0)),
    measure=measure,
    shown=("job_p50_ms", "standing_job_p99_ms", "commit_jobs"),
)
