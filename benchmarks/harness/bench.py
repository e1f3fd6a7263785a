"""One run of one scenario: its sizes, its server, and the figures that every run has."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator

import msgspec

from harness.disk import measure_sync, refuse_memory
from harness.echo import measure_echo
from harness.figures import spread
from harness.server import ServerProcess, Usage, machine_busy_s
from headrace.client.app import App
from headrace.client.client import Client
from headrace.client.env_access import default_env
from headrace.client.reconnect import Link
from headrace.model.commands import Enqueue, NewJob
from headrace.model.ids import slot_of_queue
from headrace.model.job import JobSpec
from headrace.model.replies import StatsReply

PAYLOAD_BYTES = 100
PAYLOADS = 4_096
SURROUNDINGS_S = 1.0
QUEUE = "bench"


class Sizes(msgspec.Struct, frozen=True):
    """How long and how much; `--quick` makes all of it small."""

    warmup_s: float = 5.0
    measure_s: float = 20.0
    scale: float = 1.0
    """Factor on counts of preloaded jobs and of connections."""

    def jobs(self, count: int) -> int:
        return max(1_000, int(count * self.scale))


class Bench:
    """Made by the runner; a scenario asks it for a server, a client and the usual figures."""

    def __init__(self, sizes: Sizes, directory: str, profile: str = "") -> None:
        self.sizes = sizes
        self.env = default_env()
        self.payloads = [os.urandom(PAYLOAD_BYTES) for _ in range(PAYLOADS)]
        self._profile = profile
        os.makedirs(directory, exist_ok=True)
        refuse_memory(self.env.disk.filesystem(directory), directory)
        self.directory = tempfile.mkdtemp(prefix="data-", dir=directory)
        self._payload_no = 0
        self._before: tuple[StatsReply, Usage, Usage, float] | None = None

    def close(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)

    def payload(self) -> bytes:
        """100 bytes that are not made while the clock runs."""
        self._payload_no = (self._payload_no + 1) % PAYLOADS
        return self.payloads[self._payload_no]

    def text(self) -> str:
        """Random text that makes the JSON payload `{"data":"…"}` 100 bytes long."""
        return self.payload()[:45].hex()[:89]

    # --- what surrounds the measurement

    async def surroundings(self, jobs_per_call: int = 1) -> dict[str, float]:
        """The disk's own latency, and a bare echo of the frame of such a call, now."""
        for_s = min(SURROUNDINGS_S, self.sizes.measure_s)
        found = spread("disk_sync", measure_sync(self.directory, for_s))
        jobs = [NewJob(os.urandom(16), 0, self.payload()) for _ in range(jobs_per_call)]
        command = Enqueue([JobSpec(QUEUE, "noop")], jobs)
        found |= spread("echo", await measure_echo(command, for_s))
        found["load_1m"] = os.getloadavg()[0]
        return found

    @contextlib.asynccontextmanager
    async def server(self, **settings: int) -> AsyncIterator[ServerProcess]:
        """A server of its own on a fresh port; ends with the block."""
        server = await ServerProcess.start(self.directory, settings, self._profile)
        try:
            yield server
        finally:
            await server.stop()

    @contextlib.asynccontextmanager
    async def client(self, server: ServerProcess) -> AsyncIterator[Client]:
        link = Link(self.env, server.url)
        await link.start()
        client = Client(link, self.env)
        try:
            yield client
        finally:
            await client.close()

    @contextlib.asynccontextmanager
    async def app(self, server: ServerProcess) -> AsyncIterator[App]:
        app = App(server.url, env=self.env)
        try:
            yield app
        finally:
            await app.close()

    # --- what the server did meanwhile

    async def begin(self, server: ServerProcess, client: Client) -> None:
        """The figures of `end` count from here."""
        self._before = (
            await client.stats(),
            server.usage(),
            Usage.of(os.getpid()),
            machine_busy_s(),
        )

    async def end(self, server: ServerProcess, client: Client) -> dict[str, float]:
        """Commits, their sizes and latencies, and what both processes used since `begin`."""
        assert self._before is not None
        stats, used, own, busy_s = self._before
        own_now, used_now, now = Usage.of(os.getpid()), server.usage(), await client.stats()
        ours_s = own_now.cpu_s - own.cpu_s + used_now.cpu_s - used.cpu_s
        others_s = max(0.0, machine_busy_s() - busy_s - ours_s)
        commits = _grown(stats, now, "headrace_commits_total")
        jobs = _grown(stats, now, "headrace_jobs_enqueued_total")
        done = _grown(stats, now, "headrace_jobs_succeeded_total")
        found = {
            "commits": commits,
            "commit_bytes": _grown(stats, now, "headrace_commit_bytes_total") / max(commits, 1),
            "commit_jobs": (jobs + done) / max(commits, 1),
            "server_us_a_job": (used_now.cpu_s - used.cpu_s) * 1e6 / max(jobs, done, 1),
            "client_us_a_job": (own_now.cpu_s - own.cpu_s) * 1e6 / max(jobs, done, 1),
            "server_cpu_percent": used_now.percent_since(used),
            "client_cpu_percent": own_now.percent_since(own),
            "others_cpu_percent": 100 * others_s / (own_now.at_s - own.at_s),
            "server_rss_mib": used_now.rss_bytes / (1 << 20),
        }
        for name in ("commit", "sync", "turn"):
            histogram = f"headrace_{name}_seconds"
            for share in (0.50, 0.99):
                value_s = _quantile(stats.histograms[histogram], now.histograms[histogram], share)
                found[f"{name}_p{share * 100:.0f}_ms"] = value_s * 1e3
        return found


def _quantile(before: dict[str, float], after: dict[str, float], share: float) -> float:
    """The bound below which `share` of the values lie that came between two views."""
    wanted = share * (after["count"] - before["count"])
    for name, seen in after.items():
        if name.startswith("le=") and seen - before[name] >= wanted:
            return float(name.removeprefix("le="))
    return after["max"]


def _grown(before: StatsReply, after: StatsReply, counter: str) -> float:
    return float(after.counters.get(counter, 0) - before.counters.get(counter, 0))


async def preload(client: Client, queue: str, kind: str, payloads: list[bytes], count: int) -> None:
    """`count` durable jobs, in bulk."""
    spec = JobSpec(queue, kind)
    slot = slot_of_queue(queue)
    left = count
    while left:
        chunk = min(left, 100_000)
        jobs = ((spec, slot, NewJob(b"", 0, payloads[no % PAYLOADS])) for no in range(chunk))
        await client.enqueue_many(jobs)
        left -= chunk


async def settle(seconds: float = 0.2) -> None:
    """Let a snapshot's or a burst's last work end before the next thing is measured."""
    await asyncio.sleep(seconds)
