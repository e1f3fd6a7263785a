"""Stories of processes that are asked to stop (SIGTERM) under load, and come again.

Nobody dies, so nothing may be charged or run twice: every start of a handler is an attempt.
"""

from __future__ import annotations

import asyncio
import random
import signal
from pathlib import Path

from headrace.model.ids import id_to_text
from headrace.model.limits import PRIORITY_MAX
from headrace.model.replies import JobView
from tests.e2e.crash.cluster import Members, Server
from tests.e2e.crash.draining import drained, pause, wait_until
from tests.e2e.crash.journal import History, Journal
from tests.e2e.crash.judging import judge
from tests.e2e.crash.kills import INTERRUPTED, KEEP_ALL, Tally
from tests.e2e.crash.ledger import Ledger
from tests.e2e.crash.member import CONCURRENCY, Part, application
from tests.e2e.crash.stops import LONG_LEASE_MS

SLOW_MS = 400
ACTS = ("server", "hurried", "worker")
COUNTED_AS = {
    "server": "servers asked to stop",
    "hurried": "servers asked twice",
    "worker": "workers asked to stop",
}


def all_are_asked_to_stop(directory: Path, seed: int, cycles: int) -> Tally:
    """Server and workers in turn; the server once, or twice, which stops it at once."""
    draw = random.Random(seed)
    server = Server(directory / "data", directory, **KEEP_ALL)
    server.start()
    journal = directory / "journal"
    part = Part(
        target=server.url, journal=str(journal), seed=seed, producers=3, lease_ms=LONG_LEASE_MS
    )
    members = Members(part, directory)
    workers = ["worker 0", "worker 1"]
    tally = Tally()
    try:
        members.begin("producer", produces=True)
        for name in workers:
            members.begin(name, works=True)
        for cycle in range(cycles):
            for child in members.children.values():
                child.wait_ready()
            pause(draw.uniform(0.0, 0.1))
            asyncio.run(_keep_busy(part))
            act = ACTS[cycle % len(ACTS)]
            tally[COUNTED_AS[act]] += 1
            if act == "worker":
                name = draw.choice(workers)
                members.terminate(name)
                members.begin(name, works=True)
            else:
                _stop(server, hurried=act == "hurried")
                server.start()
        for name in workers:
            members.children[name].wait_ready()
        members.terminate("producer")
        views = asyncio.run(drained(server.url, journal))
        for name in workers:
            members.terminate(name)
        assert server.child.terminate() == 0
    finally:
        members.kill_all()
        server.child.kill()
    assert Ledger(server.directory).lost() == []
    assert _charged_otherwise(History(journal), views) == []
    return tally + judge(journal, server.directory, views)


async def _keep_busy(part: Part) -> None:
    """Handlers run in every worker, and will for a moment.

    They go first: behind all that producers have enqueued they would wait ever longer.
    """
    journal = Journal(part.journal)
    async with application(part, journal) as app:
        slow = app.job_types["slow"].options(priority=PRIORITY_MAX)
        jobs = [await slow.enqueue(SLOW_MS, "") for _ in range(2 * CONCURRENCY)]
    for job in jobs:
        journal.note("asked", job.id)
        journal.note("taken", job.id)
    ids = {job.id for job in jobs}
    wait_until(lambda: len(History(Path(part.journal)).ids("started") & ids) > CONCURRENCY)


def _stop(server: Server, *, hurried: bool) -> None:
    server.child.send(signal.SIGTERM)
    if hurried:
        server.child.wait_for_event("server_stopping")
        server.child.send(signal.SIGTERM)
    code = server.child.exit_code()
    assert code in ((0, INTERRUPTED) if hurried else (0,)), server.child.last_words()


def _charged_otherwise(history: History, views: list[JobView]) -> list[str]:
    """Jobs whose handler did not run once for each attempt."""
    starts = history.starts()
    found = {id_to_text(view.job_id): view.attempt for view in views}
    return [
        f"{job_id}: {attempt} attempts, {len(starts.get(job_id, {}))} starts"
        for job_id, attempt in found.items()
        if attempt != len(starts.get(job_id, {}))
    ]
