"""A worker on the benchmark's own loop, and a view of what it has finished."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from headrace.client.app import App
from headrace.client.client import Client
from headrace.client.worker import Worker, WorkerOptions


@contextlib.asynccontextmanager
async def working(app: App, options: WorkerOptions | None = None) -> AsyncIterator[Worker]:
    """A worker of `app` runs inside the block, its session open."""
    worker = Worker(app, options or WorkerOptions(drain_ms=1_000))
    running = asyncio.get_running_loop().create_task(worker.run())
    try:
        await worker.started()
        yield worker
    finally:
        worker.stop_now()
        await running


async def reached(client: Client, queue: str, succeeded: int, step_s: float = 0.05) -> float:
    """When the queue's total of succeeded jobs reached this, by `time.perf_counter`."""
    while (await client.get_queue(queue)).succeeded_total < succeeded:
        await asyncio.sleep(step_s)
    return time.perf_counter()
