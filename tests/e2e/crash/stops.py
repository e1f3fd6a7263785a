"""Stories of processes that stand still for a while (SIGSTOP) and go on (SIGCONT).

Nobody has died, and nobody may lose by it: a server or an owner that stood still, or whose disk
did, takes no lease from workers that could not reach it; a worker that stood still beyond its
lease has lost it, its late acks change nothing, and its jobs ran elsewhere.
"""

from __future__ import annotations

import asyncio
import random
import signal
from pathlib import Path

from headrace import App
from headrace.model.replies import JobView
from tests.e2e.crash.cluster import Child, Members, Server
from tests.e2e.crash.draining import drained, pause, wait_for_acks, wait_until
from tests.e2e.crash.journal import History
from tests.e2e.crash.judging import judge
from tests.e2e.crash.kills import KEEP_ALL, Tally, owner_of
from tests.e2e.crash.ledger import Ledger
from tests.e2e.crash.member import Part
from tests.e2e.crash.syscalls import wrapper

LONG_LEASE_MS = 10_000
"""So long that no busy machine lets it end: the stops are longer."""
SHORT_LEASE_MS = 1_000


def server_stands_still(
    directory: Path, seed: int, stops_s: list[float], lease_ms: int = LONG_LEASE_MS
) -> Tally:
    """Under load, for each of these times; no lease may end by it."""
    server = Server(directory / "data", directory, **KEEP_ALL)
    server.start()
    members = _members(directory, server.url, seed, lease_ms)
    try:
        _begin(members, ["worker 0", "worker 1"])
        for stop_s in stops_s:
            _stop(server.child, directory, stop_s)
        members.terminate("producer")
        views = asyncio.run(drained(server.url, directory / "journal"))
        members.terminate("worker 0")
        members.terminate("worker 1")
        assert server.child.terminate() == 0
    finally:
        members.kill_all()
        server.child.kill()
    assert Ledger(server.directory).lost() == []
    tally = judge(directory / "journal", server.directory, views)
    tally["servers stood still"] += len(stops_s)
    return tally


def disk_stands_still(
    directory: Path, seed: int, stop_s: float, lease_ms: int = LONG_LEASE_MS
) -> Tally:
    """One sync under load takes so long, and the server waits for it; no lease may end by it."""
    when = random.Random(seed).randint(40, 120)
    server = Server(directory / "data", directory, **KEEP_ALL)
    slow = f"fdatasync:delay_exit={round(stop_s * 1e6)}:when={when}"
    server.wrapper = wrapper(slow, directory / "calls")
    server.start()
    members = _members(directory, server.url, seed, lease_ms)
    try:
        _begin(members, ["worker 0", "worker 1"])
        server.child.wait_for_event("log_stalled")
        wait_for_acks(directory / "journal", 20)
        members.terminate("producer")
        views = asyncio.run(drained(server.url, directory / "journal"))
        members.terminate("worker 0")
        members.terminate("worker 1")
        assert server.child.terminate() == 0
    finally:
        members.kill_all()
        server.child.kill()
    assert Ledger(server.directory).lost() == []
    tally = judge(directory / "journal", server.directory, views)
    tally["disks stood still"] += 1
    return tally


def owner_stands_still(
    directory: Path, seed: int, stops_s: list[float], lease_ms: int = LONG_LEASE_MS
) -> Tally:
    """The owner of a directory that others share: they wait, and nobody takes it away."""
    data = directory / "data"
    members = _members(directory, str(data), seed, lease_ms)
    names = ["member 0", "member 1", "member 2"]
    try:
        for name in names:
            members.begin(name, works=True, produces=True)
        for name in names:
            members.children[name].wait_ready()
        for stop_s in stops_s:
            owner = owner_of(data, members)
            _stop(members.children[owner], directory, stop_s)
            assert owner_of(data, members) == owner
        assert Ledger(data).epochs == 1, "the directory changed hands"
        views = asyncio.run(_end_and_drain(members, names, data))
    finally:
        members.kill_all()
    assert Ledger(data).lost() == []
    tally = judge(directory / "journal", data, views)
    tally["owners stood still"] += len(stops_s)
    return tally


def workers_stand_still(directory: Path, seed: int, cycles: int) -> Tally:
    """Each time until the server has given their session up; others run what they held."""
    draw = random.Random(seed)
    server = Server(directory / "data", directory, **KEEP_ALL)
    server.start()
    members = _members(directory, server.url, seed, SHORT_LEASE_MS)
    workers = ["worker 0", "worker 1", "worker 2"]
    try:
        _begin(members, workers)
        for _ in range(cycles):
            pause(draw.uniform(0.05, 0.5))
            child = members.children[draw.choice(workers)]
            _stop_beyond_lease(child, server.url)
        members.terminate("producer")
        views = asyncio.run(drained(server.url, directory / "journal"))
        for name in workers:
            members.terminate(name)
        assert server.child.terminate() == 0
    finally:
        members.kill_all()
        server.child.kill()
    ledger = Ledger(server.directory)
    journal = directory / "journal"
    tally = judge(journal, server.directory, views, workers_stood_still=True)
    tally["workers stood still"] += cycles
    tally["leases lost by standing still"] += len(ledger.lost())
    tally["late acks refused"] += History(journal).counts().get("ack_refused", 0)
    return tally


# --- what they share


def _members(directory: Path, target: str, seed: int, lease_ms: int) -> Members:
    journal = str(directory / "journal")
    part = Part(target=target, journal=journal, seed=seed, producers=3, lease_ms=lease_ms)
    return Members(part, directory)


def _begin(members: Members, workers: list[str]) -> None:
    members.begin("producer", produces=True)
    for worker in workers:
        members.begin(worker, works=True)
    for child in members.children.values():
        child.wait_ready()


def _stop(child: Child, directory: Path, stop_s: float) -> None:
    """In the middle of work; afterwards work goes on."""
    wait_for_acks(directory / "journal", 20)
    child.send(signal.SIGSTOP)
    pause(stop_s)
    child.send(signal.SIGCONT)
    wait_for_acks(directory / "journal", 20)


def _stop_beyond_lease(child: Child, url: str) -> None:
    """Its session has ended, and it has another."""
    child.send(signal.SIGSTOP)
    wait_until(lambda: child.pid not in _pids_of_sessions(url))
    child.send(signal.SIGCONT)
    wait_until(lambda: child.pid in _pids_of_sessions(url))


def _pids_of_sessions(url: str) -> set[int]:
    async def look() -> set[int]:
        async with App(url) as app:
            return {one.pid for one in await (await app.client()).list_sessions()}

    return asyncio.run(look())


async def _end_and_drain(members: Members, names: list[str], data: Path) -> list[JobView]:
    members.begin("last", works=True).wait_ready()
    members.terminate_together(names)
    views = await drained(str(data), data.parent / "journal")
    members.terminate("last")
    return views
