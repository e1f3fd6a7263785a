"""System calls that fail under a running server, one chosen call at a time (strace injects).

Whatever fails, what was acknowledged before is there after the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from pathlib import Path

import pytest

from headrace import App
from headrace.model.errors import HeadraceError
from tests.e2e.crash.cluster import Members, Server, run_cli
from tests.e2e.crash.draining import all_jobs, drained, wait_until
from tests.e2e.crash.journal import History
from tests.e2e.crash.ledger import Ledger
from tests.e2e.crash.member import Part
from tests.e2e.crash.verdict import breaches

IO_FAILED = 74
DEADLINE_S = 30
JOBS_MAX = 200


def strace(injection: str, *paths: Path) -> list[str]:
    """The wrapper that makes one call fail, of those about `paths` if any are given.

    Skips where strace is missing, or may not trace.
    """
    ran = None
    if shutil.which("strace"):
        probe = ["strace", "-qq", "-o", "/dev/null", "-e", "inject=fdatasync:error=EIO", "true"]
        ran = subprocess.run(probe, capture_output=True, text=True, check=False)
    if ran is None or ran.returncode != 0:
        pytest.skip(f"strace cannot inject here: {ran.stderr.strip() if ran else 'not installed'}")
    syscall = injection.partition(":")[0]
    tracing = ["-e", f"trace={syscall}", "-e", f"inject={injection}"]
    tracing += [f"--trace-path={path}" for path in paths]
    return ["strace", "-f", "-qq", "-o", "/dev/null", *tracing]


def survives(tmp_path: Path, injection: str) -> int | None:
    """The exit code of the server that met it; asserts what must hold after the next start."""
    server = Server(tmp_path / "data", tmp_path)
    server.wrapper = strace(injection)
    taken: list[bytes] = []
    try:
        with contextlib.suppress(AssertionError):  # it may fail before it is ready
            server.start()
            asyncio.run(_enqueue_until_lost(server, taken))
        met = len(taken) < JOBS_MAX
        code = server.child.exit_code() if met else None
        last_words = server.child.last_words()
        server.child.kill()
        server.wrapper = []
        server.start()
        kept = asyncio.run(_all_ids(server.url))
        assert server.child.terminate() == 0
    finally:
        server.child.kill()

    assert set(taken) <= kept
    assert len(kept) - len(taken) <= 1, "at most the call under way may have happened"
    assert "Traceback" not in last_words
    verified = run_cli("verify", str(server.directory), "--deep")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    return code


@pytest.mark.parametrize("when", [9, *(pytest.param(n, marks=pytest.mark.long) for n in (4, 23))])
def test_failed_fdatasync_ends_the_server_with_74_and_loses_nothing(
    tmp_path: Path, when: int
) -> None:
    assert survives(tmp_path, f"fdatasync:error=EIO:when={when}") == IO_FAILED


@pytest.mark.parametrize("when", [1, pytest.param(12, marks=pytest.mark.long)])
def test_failed_write_ends_the_server_with_74_and_loses_nothing(tmp_path: Path, when: int) -> None:
    assert survives(tmp_path, f"pwritev2:error=EIO:when={when}") == IO_FAILED


def test_unreadable_segment_ends_the_start_with_74_and_is_named(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", tmp_path)
    taken: list[bytes] = []
    try:
        server.start()
        asyncio.run(_enqueue_until_lost(server, taken))
        server.child.terminate()
        [segment] = server.directory.glob("wal/*.wal")
        server.wrapper = strace("pread64:error=EIO:when=1", segment)
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
    tmp_path: Path, when: int
) -> None:
    """The application goes on; its directory is recovered, by whoever comes first."""
    data, journal = tmp_path / "data", tmp_path / "journal"
    part = Part(target=str(data), journal=str(journal), seed=when, producers=3)
    members = Members(part, tmp_path)
    failing = strace(f"fdatasync:error=EIO:when={when}")
    try:
        members.begin("owner", works=True, produces=True, wrapper=failing).wait_ready()
        members.begin("other", works=True, produces=True).wait_ready()
        members.children["owner"].wait_for_event("leader_failed")
        acked = len(History(journal).ids("acked"))
        wait_until(lambda: len(History(journal).ids("acked")) > acked + 100)
        members.begin("last", works=True).wait_ready()
        members.terminate("owner")
        members.terminate("other")
        views = asyncio.run(drained(str(data)))
        members.terminate("last")
    finally:
        members.kill_all()

    assert breaches(History(journal), views, Ledger(data)) == []


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", ["error=EIO", "signal=SIGKILL"])
@pytest.mark.parametrize(
    "syscall", ["fdatasync", "fsync", "pwrite64", "pwritev2", "rename", "ftruncate"]
)
def test_every_early_call_may_fail_and_nothing_is_lost(
    tmp_path: Path, syscall: str, fault: str
) -> None:
    """The first, second, third … call of its sort, until one run never comes to it."""
    for when in range(1, 17):
        directory = tmp_path / str(when)
        directory.mkdir()
        if survives(directory, f"{syscall}:{fault}:when={when}") is None:
            return


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
