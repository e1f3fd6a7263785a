"""SIGKILL at random under load: no acknowledged job lost, none in two states, attempts right.

Real processes, a real directory, kills at random moments; what members journal, what the
server says and what the log says must tell one story. The moments are drawn from a seed
that is printed; HEADRACE_SEED runs one again (the interleaving is the machine's).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from headrace.log.file.layout import Layout
from headrace.log.file.lock import read_holder
from headrace.model.replies import JobView
from headrace.runtime.env import real_env
from tests.e2e.crash.cluster import Members, Server, run_cli
from tests.e2e.crash.draining import drained, pause
from tests.e2e.crash.journal import History
from tests.e2e.crash.ledger import Ledger
from tests.e2e.crash.member import Part
from tests.e2e.crash.verdict import breaches

CYCLES = 10
INTERRUPTED = 130
SUCCESSION_S = 20
KEEP_ALL = {"HEADRACE_QUEUE__SUCCEEDED_COUNT": "1000000", "HEADRACE_LOGGING__FORMAT": "text"}
SMALL_FILES = {
    "HEADRACE_LOG__SEGMENT_BYTES": "1MiB",
    "HEADRACE_LOG__SNAPSHOT_WAL_BYTES": "1MiB",
}


def seeds(count: int) -> list[int]:
    given = os.environ.get("HEADRACE_SEED")
    return [int(given)] if given else [random.SystemRandom().getrandbits(32) for _ in range(count)]


def test_server_and_workers_killed_at_random_lose_nothing(tmp_path: Path) -> None:
    [seed] = seeds(1)
    _run_server_story(tmp_path, seed, CYCLES)


def test_snapshots_and_truncation_lose_nothing_to_kills(tmp_path: Path) -> None:
    [seed] = seeds(1)
    _run_server_story(tmp_path, seed, CYCLES // 2, small_files=True)


def test_embedded_owner_and_others_killed_at_random_lose_nothing(tmp_path: Path) -> None:
    [seed] = seeds(1)
    _run_embedded_story(tmp_path, seed, CYCLES)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("round_no", range(4))
@pytest.mark.parametrize("small_files", [False, True], ids=["whole log", "truncated log"])
def test_server_story_goes_well_for_long(tmp_path: Path, small_files: bool, round_no: int) -> None:
    [seed] = seeds(1)
    _run_server_story(tmp_path, seed, 3 * CYCLES, small_files=small_files)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("round_no", range(4))
def test_embedded_story_goes_well_for_long(tmp_path: Path, round_no: int) -> None:
    [seed] = seeds(1)
    _run_embedded_story(tmp_path, seed, 3 * CYCLES)


# --- the stories


def _run_server_story(tmp_path: Path, seed: int, cycles: int, *, small_files: bool = False) -> None:
    """Producers and workers of one server; each cycle kills the server, a worker, or both,
    or asks the server to stop."""
    print(f"HEADRACE_SEED={seed}")
    draw = random.Random(seed)
    journal, data = tmp_path / "journal", tmp_path / "data"
    server = Server(data, tmp_path, **KEEP_ALL, **(SMALL_FILES if small_files else {}))
    server.start()
    part = Part(
        target=server.url, journal=str(journal), seed=seed, padding_bytes=6_000 * small_files
    )
    members = Members(part, tmp_path)
    workers = ["worker 0", "worker 1"]
    try:
        members.begin("producer", produces=True)
        for name in workers:
            members.begin(name, works=True)
        for child in members.children.values():
            child.wait_ready()
        for _ in range(cycles):
            pause(draw.uniform(0.02, 0.5))
            victims = draw.choice(["server", "server", "worker", "worker", "both", "politely"])
            if victims == "politely":
                assert _stopped(server) in (0, INTERRUPTED), server.child.last_words()
            elif victims != "worker":
                server.child.kill()
            if victims in ("worker", "both"):
                name = draw.choice(workers)
                members.kill(name)
                members.begin(name, works=True)
            if victims != "worker":
                _restart(server, draw)
        for name in workers:
            members.children[name].wait_ready()
        members.terminate("producer")
        views = asyncio.run(drained(server.url))
        for name in workers:
            members.terminate(name)
        assert server.child.terminate() == 0, server.child.last_words()
    finally:
        members.kill_all()
        server.child.kill()
    assert bool(list(data.glob("snapshots/*.snap"))) == small_files
    _judge(journal, data, views, reads_log=not small_files)


def _restart(server: Server, draw: random.Random) -> None:
    """Some starts are killed as well, wherever they are by then."""
    if draw.random() < 0.25:
        child = server.begin()
        pause(draw.uniform(0.0, 0.5))
        child.kill()
    server.start()


def _stopped(server: Server) -> int:
    """Its exit code: it was asked, and once more if it waits for workers that are dead."""
    server.child.send(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        return server.child.exit_code(1)
    return server.child.terminate()


def _run_embedded_story(tmp_path: Path, seed: int, cycles: int) -> None:
    """Processes that share a directory; each cycle kills its owner, or another of them,
    or asks it to end."""
    print(f"HEADRACE_SEED={seed}")
    draw = random.Random(seed)
    journal, data = tmp_path / "journal", tmp_path / "data"
    part = Part(target=str(data), journal=str(journal), seed=seed, producers=3)
    members = Members(part, tmp_path)
    names = ["member 0", "member 1", "member 2"]
    successions_s: list[float] = []
    try:
        for name in names:
            members.begin(name, works=True, produces=True)
        for name in names:
            members.children[name].wait_ready()
        for _ in range(cycles):
            pause(draw.uniform(0.1, 0.6))
            owner = _owner(members, data)
            name = owner if owner and draw.random() < 0.67 else draw.choice(list(members.children))
            if draw.random() < 0.2:
                members.children[name].wait_ready()
                members.terminate(name)
            else:
                members.kill(name)
            if name == owner:
                successions_s.append(_until_owned_again(members, data))
            members.begin(name, works=True, produces=True)
        for name in names:
            members.children[name].wait_ready()
        views = asyncio.run(_end_and_drain(members, names, data))
    finally:
        members.kill_all()
    print("taken over after", *(f"{one * 1000:.0f} ms" for one in successions_s))
    _judge(journal, data, views)


def _owner(members: Members, data: Path) -> str:
    """The member that owns the directory; `` while nobody does."""
    pid = read_holder(real_env().disk, Layout(str(data))).pid
    return next((name for name, child in members.children.items() if child.pid == pid), "")


def _until_owned_again(members: Members, data: Path) -> float:
    """How long it took, in seconds."""
    begun_s = time.monotonic()
    while not _owner(members, data):
        assert time.monotonic() < begun_s + SUCCESSION_S, "nobody took over"
        pause(0.005)
    return time.monotonic() - begun_s


async def _end_and_drain(members: Members, names: list[str], data: Path) -> list[JobView]:
    """Everybody but one ends in good order; that one runs what is left."""
    members.begin("last", works=True).wait_ready()
    for name in names:
        members.children[name].send(signal.SIGTERM)
    for name in names:
        members.terminate(name)
    views = await drained(str(data))
    members.terminate("last")
    return views


def _judge(journal: Path, data: Path, views: list[JobView], *, reads_log: bool = True) -> None:
    history = History(journal)
    verified = run_cli("verify", str(data), "--deep")
    ledger = Ledger(data) if reads_log else None
    found = breaches(history, views, ledger)
    print(len(views), "jobs;", history.counts())
    if ledger is not None:
        print(ledger.epochs, "epochs;", ledger.uncharged.total(), "leases ended uncharged")

    assert found == []
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert len(history.ids("taken")) > 100
