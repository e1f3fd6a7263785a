"""What may happen to a server, a worker or their directory, on real processes and files.

The disk's own troubles are in `test_full_disk` and `test_io_errors`, kills in
`test_sigkill`, hostile peers in `tests/unit/server`, damage in `tests/recovery`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import struct
import subprocess
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace import App
from headrace.cli.replay import read_only, records_of
from headrace.engine.engine import Engine
from headrace.log.file.watermark import SLOT_BYTES
from headrace.model.ids import id_to_text
from headrace.model.job import State
from headrace.model.replies import JobView
from headrace.runtime.env import real_env
from tests.e2e.crash.cluster import Child, Members, Server, run_cli
from tests.e2e.crash.draining import all_jobs, pause, wait_until
from tests.e2e.crash.journal import History, Journal
from tests.e2e.crash.member import Part, application

COPIES_MAX = 6
DATA_REFUSED = 78
DEADLINE_S = 30
LEASE_MS = 2_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data", tmp_path)
    server.start()
    try:
        yield server
    finally:
        server.child.kill()


@pytest.fixture
def members(server: Server, tmp_path: Path) -> Iterator[Members]:
    part = Part(
        target=server.url, journal=str(tmp_path / "journal"), seed=1, lease_ms=LEASE_MS, producers=3
    )
    members = Members(part, tmp_path)
    try:
        yield members
    finally:
        members.kill_all()


# --- a directory that must not be opened


def test_directory_of_a_newer_version_is_refused_and_left_alone(server: Server) -> None:
    server.child.terminate()
    mark = server.directory / "meta/WATERMARK"
    newer = b"".join(_of_format(slot, 9) for slot in _slots(mark.read_bytes()))
    mark.write_bytes(newer)

    start = server.begin()

    assert start.exit_code() == DATA_REFUSED
    assert "E-FORMAT-NEWER" in start.last_words()
    assert "Traceback" not in start.last_words()
    assert mark.read_bytes() == newer


def test_damaged_segment_is_named_with_the_command_that_mends_it(
    server: Server, members: Members, tmp_path: Path
) -> None:
    members.begin("producer", produces=True).wait_ready()
    wait_until(lambda: len(_history(tmp_path).ids("taken")) > 20)
    members.terminate("producer")
    server.child.terminate()
    [segment] = server.directory.glob("wal/*.wal")
    damaged = bytearray(segment.read_bytes())
    damaged[len(damaged) // 2] ^= 0x40
    segment.write_bytes(damaged)

    start = server.begin()

    assert start.exit_code() == DATA_REFUSED
    said = start.last_words()
    assert "E-WAL-CORRUPT" in said
    assert segment.name in said
    command = said.split("`headrace repair ")[1].split("`")[0].split()
    offset = command[-1].rpartition(":")[2]
    assert f"at offset {offset}" in said
    assert run_cli("repair", *command, "--dry-run").returncode in (0, DATA_REFUSED)


# --- processes that stand still


def test_worker_that_stood_still_beyond_its_lease_is_refused_its_ack(
    server: Server, members: Members, tmp_path: Path
) -> None:
    first = members.begin("first", works=True).wait_ready()
    job_id = asyncio.run(_enqueue_slow(server.url, tmp_path, pause_ms=600))
    wait_until(lambda: job_id in _history(tmp_path).starts())
    first.send(signal.SIGSTOP)
    members.begin("second", works=True).wait_ready()
    wait_until(lambda: len(_history(tmp_path).starts()[job_id]) == 2)
    first.send(signal.SIGCONT)
    view = asyncio.run(_until_final(server.url, job_id))
    members.terminate("first")
    members.terminate("second")

    old, new = _history(tmp_path).leases("started")[job_id]
    assert old < new == view.token
    assert _history(tmp_path).leases("acked")[job_id] == [new]
    assert (view.state, view.attempt, view.crash_count) == (State.SUCCEEDED, 2, 1)


def test_server_that_stood_still_costs_no_worker_its_jobs(
    server: Server, members: Members, tmp_path: Path
) -> None:
    members.begin("worker", works=True).wait_ready()
    job_id = asyncio.run(_enqueue_slow(server.url, tmp_path, pause_ms=LEASE_MS + 900))
    wait_until(lambda: job_id in _history(tmp_path).starts())
    server.child.send(signal.SIGSTOP)
    pause(LEASE_MS / 1_000 + 0.5)
    server.child.send(signal.SIGCONT)
    view = asyncio.run(_until_final(server.url, job_id))
    members.terminate("worker")

    assert (view.state, view.attempt, view.crash_count) == (State.SUCCEEDED, 1, 0)


def test_connection_that_goes_silent_costs_the_job_its_lease_and_nobody_else(
    server: Server, members: Members, tmp_path: Path
) -> None:
    """Half-open: neither side ever sees an end of the connection."""
    with SilentProxy(server.url) as proxy:
        far = Members(
            Part(target=proxy.url, journal=str(tmp_path / "journal"), seed=2, lease_ms=LEASE_MS),
            tmp_path,
        )
        try:
            far.begin("far", works=True).wait_ready()
            job_id = asyncio.run(_enqueue_slow(server.url, tmp_path, pause_ms=300))
            wait_until(lambda: job_id in _history(tmp_path).starts())
            proxy.go_silent()
            members.begin("near", works=True).wait_ready()
            view = asyncio.run(_until_final(server.url, job_id))
        finally:
            far.kill_all()
    members.terminate("near")

    old, new = _history(tmp_path).leases("started")[job_id]
    assert old < new == view.token
    assert _history(tmp_path).leases("acked")[job_id] == [new]


# --- copies


def test_plain_copies_of_a_busy_directory_recover_or_say_why_not(
    server: Server, members: Members, tmp_path: Path
) -> None:
    members.begin("producer", produces=True).wait_ready()
    members.begin("worker", works=True).wait_ready()
    recovered = False
    for number in range(COPIES_MAX):
        order = ["meta", "wal"] if number else []
        before = _history(tmp_path).ids("taken")
        copy = tmp_path / f"copy {number}"
        if order:
            copy.mkdir(mode=0o700)
        sources = [server.directory / name for name in order] or [server.directory]
        subprocess.run(["cp", "-r", *sources, copy], check=True)
        recovered = _serves(copy, tmp_path, before) or recovered
        # A copy that has the watermark before the log is nearly always whole.
        if number and recovered:
            return
    pytest.fail(f"none of {COPIES_MAX} copies recovered")


def test_backup_under_load_restores_to_the_same_state(
    server: Server, members: Members, tmp_path: Path
) -> None:
    members.begin("producer", produces=True).wait_ready()
    members.begin("worker", works=True).wait_ready()
    wait_until(lambda: len(_history(tmp_path).ids("acked")) > 50)
    before = _history(tmp_path).ids("taken")
    backup, restored = tmp_path / "backup", tmp_path / "restored"
    made = run_cli("backup", str(server.directory), str(backup), "--json")
    members.kill_all()
    assert made.returncode == 0, made.stderr
    assert run_cli("restore", str(backup), str(restored), "--yes").returncode == 0

    index, digest = json.loads(made.stdout)["last_index"], _deep(restored)["digest"]
    assert digest == _deep(backup)["digest"]
    assert digest == _digest_at(server.directory, index)
    assert _serves(restored, tmp_path, before)


# --- what they share


class SilentProxy:
    """A TCP relay that can stop relaying, without closing anything."""

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("headrace://").rpartition(":")
        self._server_address = host, int(port)
        self._silent = False
        self._writers: list[asyncio.StreamWriter] = []
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.url = ""

    def __enter__(self) -> SilentProxy:
        self._thread.start()
        assert self._ready.wait(DEADLINE_S)
        return self

    def __exit__(self, *_: object) -> None:
        """All connections are reset."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def go_silent(self) -> None:
        self._silent = True

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._ended = asyncio.Event()
        listener = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        host, port = listener.sockets[0].getsockname()
        self.url = f"headrace://{host}:{port}"
        self._ready.set()
        await self._ended.wait()
        listener.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _relay(self, near: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        far, far_out = await asyncio.open_connection(*self._server_address)
        self._writers += [near_out, far_out]
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(self._pass_on(near, far_out), self._pass_on(far, near_out))

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            if not self._silent:
                target.write(data)


def _slots(mark: bytes) -> list[bytes]:
    return [mark[start : start + SLOT_BYTES] for start in range(0, len(mark), SLOT_BYTES)]


def _of_format(slot: bytes, version: int) -> bytes:
    """The same slot, written by a program of that version, its checksum in order."""
    changed = bytearray(slot)
    struct.pack_into("<HH", changed, 8, version, version)
    struct.pack_into("<I", changed, SLOT_BYTES - 4, zlib.crc32(changed[: SLOT_BYTES - 4]))
    return bytes(changed)


def _history(tmp_path: Path) -> History:
    return History(tmp_path / "journal")


async def _enqueue_slow(url: str, tmp_path: Path, pause_ms: int) -> str:
    part = Part(target=url, journal=str(tmp_path / "journal"), seed=0)
    async with application(part, Journal(part.journal)) as app:
        job = await app.job_types["slow"].enqueue(pause_ms, "")
        return job.id


async def _until_final(url: str, job_id: str) -> JobView:
    async with App(url) as app:
        return await app.handle(job_id).wait(f"{DEADLINE_S}s")


def _serves(directory: Path, logs: Path, expected: set[str]) -> bool:
    """A server runs on it and has these jobs; or it said why not, and what to do instead."""
    server = Server(directory, logs)
    child: Child = server.begin()
    child.errors.write_text("")
    try:
        try:
            server.adopt(child.wait_ready())
        except AssertionError:
            assert child.exit_code() == DATA_REFUSED
            assert "headrace backup" in child.last_words()
            return False
        found = asyncio.run(_all_ids(server.url))
    finally:
        child.kill()
    assert expected <= found
    assert run_cli("verify", str(directory), "--deep").returncode == 0
    return True


async def _all_ids(url: str) -> set[str]:
    async with App(url) as app:
        return {id_to_text(view.job_id) for view in await all_jobs(await app.client())}


def _deep(directory: Path) -> dict[str, str]:
    verified = run_cli("verify", str(directory), "--deep", "--json")
    assert verified.returncode == 0, verified.stdout
    deep: dict[str, str] = json.loads(verified.stdout)["deep"]
    return deep


def _digest_at(directory: Path, last_index: int) -> str:
    """Of the state that the log of a live directory led to at that index."""
    engine = Engine()
    with read_only(real_env(), str(directory)) as (log, _):
        for commit in log.tail(1):
            for index, record in records_of(commit):
                if index <= last_index:
                    engine.apply(index, record)
    return engine.digest()
