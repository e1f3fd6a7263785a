"""System calls that fail under a running server, one chosen call at a time (strace injects).

Whatever fails, what was acknowledged before is there after the next start.
`python -m proof.processes --only syscalls` meets a hundred points, drawn from a seed.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headrace import App
from headrace.model.errors import HeadraceError
from tests.e2e.crash.cluster import Server
from tests.e2e.crash.draining import all_jobs
from tests.e2e.crash.embedded_faults import owner_whose_sync_fails
from tests.e2e.crash.power import Machine
from tests.e2e.crash.syscalls import DEEPEST, FAULTS, IO_FAILED, Story, point_at, point_of, wrapper

DEADLINE_S = 30
JOBS_MAX = 200
QUICK_JOBS = 60
KILLED = -9


@pytest.mark.parametrize(
    ("point", "code"),
    [
        ("fdatasync:error=EIO:when=9", IO_FAILED),
        ("pwritev2:error=EIO:when=3", IO_FAILED),
        ("openat:error=EIO:when=3", IO_FAILED),
        ("fallocate:error=ENOSPC:when=1", IO_FAILED),
        ("fsync:signal=SIGKILL:when=3", KILLED),
        ("rename:signal=SIGKILL:when=2", KILLED),
        ("ftruncate:signal=SIGKILL:when=1", KILLED),
    ],
)
def test_call_that_fails_ends_the_server_as_it_should_and_loses_nothing(
    tmp_path: Path, point: str, code: int | None
) -> None:
    """Where the process dies, the power goes off as well."""
    machine = Machine(tmp_path / "disk") if point_of(point).kills else None
    story = Story(tmp_path, machine)
    assert story.survives(point_of(point), QUICK_JOBS) == code
    assert story.is_met


def test_unreadable_segment_ends_the_start_with_74_and_is_named(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", tmp_path)
    taken: list[bytes] = []
    try:
        server.start()
        asyncio.run(_enqueue_until_lost(server, taken))
        server.child.terminate()
        [segment] = server.directory.glob("wal/*.wal")
        server.wrapper = wrapper("pread64:error=EIO:when=1", tmp_path / "calls", segment)
        start = server.begin()
        assert start.exit_code() == IO_FAILED
        said = start.last_words()
        server.wrapper = []
        server.start()
        kept = asyncio.run(_all_ids(server.url))
    finally:
        server.child.kill()

    assert kept == set(taken)
    assert segment.name in said
    assert "Traceback" not in said


@pytest.mark.parametrize("when", [20, pytest.param(60, marks=pytest.mark.long)])
def test_embedded_owner_whose_sync_fails_harms_neither_its_process_nor_its_jobs(
    tmp_path: Path, seed: int, when: int
) -> None:
    owner_whose_sync_fails(tmp_path, seed, when)


@pytest.mark.long
def test_files_that_cannot_be_removed_end_the_server_and_are_no_bug_of_its(tmp_path: Path) -> None:
    """Each thread meets it: the segment that nobody needs, then the socket at the end."""
    story = Story(tmp_path)
    assert story.survives(point_of("unlink:error=EIO:when=1")) == IO_FAILED
    assert story.is_met


@pytest.mark.long
@pytest.mark.timeout(900)
def test_points_drawn_at_random_lose_nothing(tmp_path: Path, seed: int) -> None:
    for number in range(seed, seed + len(DEEPEST) * len(FAULTS)):
        directory = tmp_path / str(number)
        directory.mkdir()
        print(point_at(number))
        Story(directory).survives(point_at(number))


# --- what a client sees


async def _enqueue_until_lost(server: Server, taken: list[bytes]) -> None:
    """One at a time, as long as the server lives; ids of those acknowledged."""
    async with App(server.url) as app, asyncio.timeout(DEADLINE_S):
        client = await app.client()
        for number in range(JOBS_MAX):
            answer = asyncio.ensure_future(client.enqueue("q", "k", str(number).encode()))
            while not answer.done() and server.child.process.poll() is None:
                await asyncio.wait([answer], timeout=0.1)
            if not answer.done() or isinstance(answer.exception(), HeadraceError):
                answer.cancel()
                return
            taken.append(answer.result().job_id)


async def _all_ids(url: str) -> set[bytes]:
    async with App(url) as app, asyncio.timeout(DEADLINE_S):
        return {view.job_id for view in await all_jobs(await app.client())}
