"""Stories of many who want one directory at the same time: one gets it, and nothing is harmed."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.e2e.crash.cluster import START_S, Child, Members, Server
from tests.e2e.crash.draining import drained, pause, wait_for_acks
from tests.e2e.crash.judging import judge
from tests.e2e.crash.kills import KEEP_ALL, Tally, owner_of
from tests.e2e.crash.ledger import Ledger
from tests.e2e.crash.member import Part

LOCKED = 75


def servers_start_at_once(directory: Path, seed: int, rounds: int, rivals: int = 4) -> Tally:
    """Under load: first beside a server that lives, then all after it was killed."""
    server = Server(directory / "data", directory, **KEEP_ALL)
    server.start()
    journal = directory / "journal"
    part = Part(target=server.url, journal=str(journal), seed=seed, producers=3)
    members = Members(part, directory)
    all_servers = [server]
    try:
        members.begin("producer", produces=True).wait_ready()
        members.begin("worker", works=True).wait_ready()
        for _ in range(rounds):
            late = _begin_rivals(server, directory, rivals)
            all_servers += late
            assert [one.child.exit_code() for one in late] == [LOCKED] * rivals
            assert all("E-LOCKED" in one.child.last_words() for one in late)
            server.child.kill()
            rivalling = _begin_rivals(server, directory, rivals)
            all_servers += rivalling
            server = _only_winner(rivalling)
            wait_for_acks(journal, 20)
        members.terminate("producer")
        views = asyncio.run(drained(server.url, journal))
        members.terminate("worker")
        assert server.child.terminate() == 0
    finally:
        members.kill_all()
        for one in all_servers:
            one.child.kill()
    assert Ledger(server.directory).epochs == 1 + rounds
    tally = judge(journal, server.directory, views)
    tally["servers refused"] += rounds * (2 * rivals - 1)
    return tally


def applications_start_at_once(directory: Path, seed: int, rounds: int, count: int = 5) -> Tally:
    """On one directory, which nobody owns; then all are killed, and all start again."""
    data, journal = directory / "data", directory / "journal"
    part = Part(target=str(data), journal=str(journal), seed=seed, producers=2)
    members = Members(part, directory)
    names = [f"member {number}" for number in range(count)]
    try:
        for _ in range(rounds):
            members.kill_all()
            for name in names:
                members.begin(name, works=True, produces=True)
            for name in names:
                members.children[name].wait_ready()
            assert owner_of(data, members)
            wait_for_acks(journal, 20)
        assert Ledger(data).epochs == rounds
        members.begin("last", works=True).wait_ready()
        members.terminate_together(names)
        views = asyncio.run(drained(str(data), journal))
        members.terminate("last")
    finally:
        members.kill_all()
    tally = judge(journal, data, views)
    tally["applications that did not own"] += rounds * (count - 1)
    return tally


def _begin_rivals(server: Server, directory: Path, count: int) -> list[Server]:
    """All at the same address, for the clients of the one that wins."""
    rivals = [server.rival(directory / f"rival {number}.log") for number in range(count)]
    for one in rivals:
        one.begin()
    return rivals


def _only_winner(rivals: list[Server]) -> Server:
    """It is ready, and all others have ended because it was."""
    deadline_s = time.monotonic() + START_S
    while sum(one.child.process.poll() is None for one in rivals) > 1:
        assert time.monotonic() < deadline_s, "several of them live"
        pause(0.01)
    [winner] = [one for one in rivals if one.child.process.poll() is None]
    winner.adopt(winner.child.wait_ready())
    losers: list[Child] = [one.child for one in rivals if one is not winner]
    assert [loser.exit_code() for loser in losers] == [LOCKED] * len(losers)
    return winner
