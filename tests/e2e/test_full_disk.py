"""A disk that fills up under a running server: a real file system, filled to the brim."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace import App
from headrace.client.client import Client
from headrace.model.errors import DiskFull, Unavailable
from headrace.model.limits import DISK_RESERVE_BYTES, MIB
from tests.e2e.crash.cluster import Child, Server, run_cli
from tests.e2e.small_disk import EXT4, TMPFS, SmallDisk, small_disk

SMALL_FILES = {
    "HEADRACE_LOG__SEGMENT_BYTES": "1MiB",
    "HEADRACE_LOG__SNAPSHOT_WAL_BYTES": "1MiB",
}
JOBS = 400
RESULT = bytes(8_192)
STARTS_MAX = 4
DEADLINE_S = 30
STUCK_S = 1


@pytest.fixture(params=[TMPFS, pytest.param(EXT4, marks=pytest.mark.long)])
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SmallDisk]:
    with small_disk(tmp_path, 160 * MIB, request.param) as disk:
        yield disk


@pytest.fixture
def server(disk: SmallDisk, tmp_path: Path) -> Iterator[Server]:
    server = Server(disk.root / "data", tmp_path, **SMALL_FILES)
    server.start()
    try:
        yield server
    finally:
        server.child.kill()


def test_nearly_full_disk_refuses_new_jobs_and_takes_acks(server: Server, disk: SmallDisk) -> None:
    async def story() -> None:
        async with App(server.url) as app, asyncio.timeout(DEADLINE_S):
            client = await app.client()
            await _enqueue(client, 10)
            disk.leave(DISK_RESERVE_BYTES)
            refusal = await _until_refused(client)
            assert refusal.retry_after_ms > 0
            assert "Acks are still taken" in refusal.hint

            assert await _run_all(client) >= 10

            disk.relieve()
            await _until_taken(client)

    asyncio.run(story())
    assert server.child.terminate() == 0


def test_disk_full_to_the_brim_holds_answers_back_until_there_is_room(
    server: Server, disk: SmallDisk
) -> None:
    async def story() -> None:
        async with App(server.url) as app, asyncio.timeout(DEADLINE_S):
            client = await app.client()
            await _enqueue(client, JOBS)
            disk.brim()
            acked, late_ack = await _run_until_stuck(client)
            assert acked > 0, "room was kept for some acks"
            assert server.child.last_words().count("log_refused") == 1, "said once, not for ever"

            disk.relieve()

            await late_ack
            await _until_taken(client)
            assert acked + 1 + await _run_all(client) >= JOBS

    asyncio.run(story())
    assert server.child.terminate() == 0
    assert run_cli("verify", str(server.directory), "--deep").returncode == 0


def test_server_killed_on_a_full_disk_loses_nothing_once_there_is_room(
    server: Server, disk: SmallDisk
) -> None:
    async def fill() -> int:
        async with App(server.url) as app, asyncio.timeout(DEADLINE_S):
            client = await app.client()
            await _enqueue(client, JOBS)
            disk.brim()
            acked, late_ack = await _run_until_stuck(client)
            late_ack.cancel()
            return acked

    async def count() -> tuple[int, int]:
        async with App(server.url) as app, asyncio.timeout(DEADLINE_S):
            queue = await (await app.client()).get_queue("work")
            return queue.enqueued_total, queue.succeeded_total

    acked = asyncio.run(fill())
    start = _start_without_room(server, disk)
    assert start.exit_code() == 74
    assert "is full" in start.last_words()
    assert "Traceback" not in start.last_words()

    disk.relieve()
    server.start()
    enqueued, succeeded = asyncio.run(count())
    assert enqueued == JOBS
    assert succeeded in (acked, acked + 1)


def _start_without_room(server: Server, disk: SmallDisk) -> Child:
    """It has ended. A start may find room in what its predecessor left to be thrown away."""
    for _ in range(STARTS_MAX):
        server.child.kill()
        disk.brim()
        start = server.begin()
        if not start.comes_up():
            return start
    raise AssertionError("there is always room for one more start")


def test_server_told_twice_to_stop_on_a_full_disk_ends_at_once(
    server: Server, disk: SmallDisk
) -> None:
    async def fill() -> None:
        async with App(server.url) as app, asyncio.timeout(DEADLINE_S):
            client = await app.client()
            await _enqueue(client, JOBS)
            disk.brim()
            _, late_ack = await _run_until_stuck(client)
            late_ack.cancel()

    asyncio.run(fill())
    server.child.send(signal.SIGTERM)
    server.child.wait_for_event("server_stopping")
    begun_s = time.monotonic()
    server.child.terminate()

    assert time.monotonic() - begun_s < 5
    assert "Traceback" not in server.child.last_words()
    disk.relieve()
    server.start()


# --- what a client does


async def _enqueue(client: Client, count: int) -> None:
    for number in range(count):
        await client.enqueue("work", "any", str(number).encode())


async def _until_refused(client: Client) -> DiskFull:
    while True:
        try:
            await client.enqueue("work", "any", b"1")
        except DiskFull as refusal:
            return refusal


async def _until_taken(client: Client) -> None:
    """A refused call is made again when the refusal says so."""
    while True:
        try:
            await client.enqueue("work", "any", b"1")
        except Unavailable as refusal:
            await asyncio.sleep(refusal.retry_after_ms / 1_000)
        else:
            return


async def _run_one(client: Client) -> bool:
    """False: there is none."""
    groups = await client.claim(["work"], ["any"])
    for group in groups:
        await client.ack(group.jobs[0].job_id, group.token, RESULT)
    return bool(groups)


async def _run_all(client: Client) -> int:
    count = 0
    while await _run_one(client):
        count += 1
    return count


async def _run_until_stuck(client: Client) -> tuple[int, asyncio.Task[Any]]:
    """(jobs acked, the ack that waits for the disk)."""
    acked = 0
    while True:
        run = asyncio.ensure_future(_run_one(client))
        done, _ = await asyncio.wait([run], timeout=STUCK_S)
        if not done:
            return acked, run
        assert run.result(), "the disk was never full"
        acked += 1
