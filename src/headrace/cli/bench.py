"""`headrace bench`: how fast a server takes and gives jobs, beside what its disk can do.

Measures the wire, the engine and the log, not handlers: jobs are claimed and acked by this
process. `benchmarks/` measures all the rest. Everything happens in a queue of its own,
which is emptied afterwards.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from headrace.cli.application import noun, run
from headrace.cli.exits import UsageFault
from headrace.cli.options import REMOTE, Remote
from headrace.cli.output import Progress, print_facts, print_json, print_line, print_table, progress
from headrace.cli.target import Reached, reached
from headrace.cli.times import size_option
from headrace.client.client import Client
from headrace.client.target import is_directory
from headrace.log.file.layout import Layout
from headrace.log.file.probing import probe_disk
from headrace.model.commands import Ack, NewJob
from headrace.model.ids import slot_of_queue
from headrace.model.job import FINAL_STATES, JobSpec, State
from headrace.model.limits import BULK_CALLS_MAX, BULK_JOBS, CLAIM_JOBS_MAX, PAYLOAD_BYTES_MAX
from headrace.model.queue import DURABILITY_WORDS
from headrace.runtime.env import real_env

app = noun("bench")

KIND = "headrace-bench"
COLUMNS = {
    "name": "",
    "jobs": "jobs",
    "jobs_per_s": "jobs/s",
    "calls": "calls",
    "in_flight": "in flight",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "max_ms": "max ms",
    "commits": "commits",
    "commit_bytes_mean": "bytes each",
}
ONE_BY_ONE = 500


@app.default
def bench(
    *,
    jobs: int = 20_000,
    payload: str = "100B",
    concurrency: int = 1_000,
    queue: str = "headrace-bench",
    options: Remote = REMOTE,
) -> None:
    """Measure enqueue and drain of a server, and its disk.

    Three ways of enqueueing (one at a time, many at a time, in bulk), then claim and ack.
    Every job waits for its own commit. The queue is purged afterwards.

    Args:
        jobs: Jobs of each measurement but the first.
        payload: Size of each payload.
        concurrency: Calls in flight of the second measurement.
        queue: A queue that nobody else uses.
    """
    size_bytes = size_option(payload, "payload")
    if not 2 <= size_bytes <= PAYLOAD_BYTES_MAX:
        raise UsageFault(f"--payload must be from 2 to {PAYLOAD_BYTES_MAX} bytes.")
    if jobs < 1 or concurrency < 1:
        raise UsageFault("--jobs and --concurrency must be 1 or more.")
    report = run(_bench(options, _Load(queue, jobs, size_bytes, concurrency)))
    if options.json:
        print_json(report)
    else:
        _show(report)


class _Load:
    """What is enqueued, and how."""

    def __init__(self, queue: str, jobs: int, payload_bytes: int, concurrency: int) -> None:
        self.queue = queue
        self.jobs = jobs
        self.concurrency = concurrency
        self.payload_bytes = payload_bytes
        self.spec = JobSpec(queue, KIND, media_type="application/octet-stream")
        self.slot = slot_of_queue(queue)
        self._payload = os.urandom(payload_bytes)

    def new_job(self) -> NewJob:
        return NewJob(b"", 0, self._payload)


Step = Callable[[Client, _Load, Progress], Awaitable[list[float]]]


async def _bench(options: Remote, load: _Load) -> dict[str, Any]:
    steps = (
        ("enqueue, one at a time", min(ONE_BY_ONE, load.jobs), 1, _enqueue_one_by_one),
        ("enqueue, many in flight", load.jobs, load.concurrency, _enqueue_in_flight),
        (f"enqueue, bulks of {BULK_JOBS:,}", load.jobs, BULK_CALLS_MAX, _enqueue_bulk),
        ("claim and ack", load.jobs, 1, _drain),
    )
    async with reached(options, create=True) as found:
        client = found.client
        disk = _disk_of(found)
        try:
            results = [await _measured(client, load, *step) for step in steps]
            settings = (await client.get_queue(load.queue)).settings
        finally:
            await client.purge(load.queue, [State.READY, *FINAL_STATES])
        return {
            "target": found.where,
            "durability": DURABILITY_WORDS[settings.durability],
            "payload_bytes": load.payload_bytes,
            "disk": disk,
            "results": results,
        }


async def _measured(
    client: Client, load: _Load, name: str, count: int, in_flight: int, step: Step
) -> dict[str, Any]:
    before = (await client.stats()).counters
    with progress(name, count) as advance:
        began_s = time.perf_counter()
        latencies_s = sorted(await step(client, load, advance))
        seconds = time.perf_counter() - began_s
    after = (await client.stats()).counters
    commits, commit_bytes = (
        after[name] - before[name]
        for name in ("headrace_commits_total", "headrace_commit_bytes_total")
    )
    return {
        "name": name,
        "jobs": count,
        "seconds": round(seconds, 4),
        "jobs_per_s": round(count / seconds),
        "calls": len(latencies_s),
        "in_flight": in_flight,
        "p50_ms": _percentile_ms(latencies_s, 0.50),
        "p99_ms": _percentile_ms(latencies_s, 0.99),
        "max_ms": _percentile_ms(latencies_s, 1.0),
        "commits": commits,
        "commit_bytes_mean": round(commit_bytes / max(commits, 1)),
    }


def _percentile_ms(sorted_s: Sequence[float], share: float) -> float:
    position = min(len(sorted_s) - 1, int(share * len(sorted_s)))
    return round(sorted_s[position] * 1_000, 3)


# --- what is measured; each returns the time of every call


async def _enqueue_one_by_one(client: Client, load: _Load, advance: Progress) -> list[float]:
    times_s = []
    for done in range(1, min(ONE_BY_ONE, load.jobs) + 1):
        began_s = time.perf_counter()
        await client.submit(load.spec, load.slot, load.new_job())
        times_s.append(time.perf_counter() - began_s)
        advance(done)
    return times_s


async def _enqueue_in_flight(client: Client, load: _Load, advance: Progress) -> list[float]:
    times_s: list[float] = []
    left = iter(range(load.jobs))

    async def caller() -> None:
        for _ in left:
            began_s = time.perf_counter()
            await client.submit(load.spec, load.slot, load.new_job())
            times_s.append(time.perf_counter() - began_s)
        advance(len(times_s))

    async with asyncio.TaskGroup() as callers:
        for _ in range(load.concurrency):
            callers.create_task(caller())
    return times_s


async def _enqueue_bulk(client: Client, load: _Load, advance: Progress) -> list[float]:
    """The time of a bulk is that of its own call, as many at a time as the SDK has."""
    times_s: list[float] = []
    sizes = [min(BULK_JOBS, load.jobs - start) for start in range(0, load.jobs, BULK_JOBS)]
    left = iter(sizes)

    async def caller() -> None:
        for size in left:
            began_s = time.perf_counter()
            bulk = ((load.spec, load.slot, load.new_job()) for _ in range(size))
            await client.enqueue_many(bulk)
            times_s.append(time.perf_counter() - began_s)
            advance(len(times_s) * BULK_JOBS)

    async with asyncio.TaskGroup() as callers:
        for _ in range(BULK_CALLS_MAX):
            callers.create_task(caller())
    return times_s


async def _drain(client: Client, load: _Load, advance: Progress) -> list[float]:
    """The time of a round: claim up to 1,024 jobs, and ack them."""
    times_s: list[float] = []
    done = 0
    while done < load.jobs:
        began_s = time.perf_counter()
        wanted = min(CLAIM_JOBS_MAX, load.jobs - done)
        groups = await client.claim((load.queue,), (KIND,), jobs_max=wanted, wait_ms=1_000)
        results: list[tuple[bytes, int, bytes | None]] = [
            (job.job_id, group.token, None) for group in groups for job in group.jobs
        ]
        if results:
            await client.call(Ack(results))
        done += len(results)
        times_s.append(time.perf_counter() - began_s)
        advance(done)
    return times_s


def _disk_of(found: Reached) -> dict[str, float] | None:
    """Of the directory's own disk; None when the server may be on another machine."""
    if not is_directory(found.where):
        return None
    probe = probe_disk(real_env(), Layout(found.where))
    return {"sync_p50_ms": round(probe.sync_p50_ms, 3), "sync_p99_ms": round(probe.sync_p99_ms, 3)}


def _show(report: dict[str, Any]) -> None:
    disk = report["disk"]
    shown = (
        f"4 KiB write and sync: p50 {disk['sync_p50_ms']:.2f} ms, p99 {disk['sync_p99_ms']:.2f} ms"
        if disk
        else "not measured: only for a target on this machine's disk (--url DIR)"
    )
    print_facts(
        [
            ("target", report["target"]),
            ("durability", report["durability"]),
            ("payload", f"{report['payload_bytes']} bytes"),
            ("disk", shown),
        ]
    )
    print_line("")
    print_table(
        tuple(COLUMNS.values()),
        [tuple(result[name] for name in COLUMNS) for result in report["results"]],
        "",
    )
