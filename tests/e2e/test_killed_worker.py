"""A worker killed at each point of a job's life: what was started is charged, nothing is lost.

All die of one server, each with a job of its own; one more worker runs what they left.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from headrace import App
from headrace.model.ids import id_to_text
from headrace.model.job import State
from headrace.model.replies import JobView
from tests.e2e.crash import mortal
from tests.e2e.crash.cluster import ROOT, Child, Server
from tests.e2e.crash.journal import History

pytestmark = pytest.mark.proof

DEADLINE_S = 60
LEASE_MS = 1_000
LEASES_MS = {mortal.PUSH_UNREAD: 4_000, "": 30_000}
"""Of the worker that stands still until it is killed, and of the heir: neither lease may end by
itself, however busy the machine is."""


@dataclass(frozen=True)
class Case:
    point: str
    starts: int
    """Of handlers, of all workers together."""
    attempt: int
    """That succeeded."""
    crashes: int


CASES = [
    Case(mortal.PUSH_UNREAD, starts=1, attempt=1, crashes=0),
    Case(mortal.PUSH_READ, starts=1, attempt=1, crashes=0),
    Case(mortal.RESERVED, starts=1, attempt=1, crashes=0),
    # The server was told that the handler starts, and cannot know that it did not.
    Case(mortal.ANNOUNCED, starts=1, attempt=2, crashes=1),
    Case(mortal.IN_ASYNC, starts=2, attempt=2, crashes=1),
    Case(mortal.IN_THREAD, starts=2, attempt=2, crashes=1),
    Case(mortal.IN_PROCESS, starts=2, attempt=2, crashes=1),
    Case(mortal.RETURNED, starts=2, attempt=2, crashes=1),
    # The ack that had left counts, although nobody lived to read its answer.
    Case(mortal.ACK_SENT, starts=1, attempt=1, crashes=0),
]


@dataclass(frozen=True)
class Aftermath:
    views: dict[str, JobView]
    """By the point at which the first worker of the job died."""
    history: History
    exit_codes: dict[str, int]


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Aftermath:
    """Every worker of `CASES` is dead, and all jobs are final."""
    directory = tmp_path_factory.mktemp("mortals")
    server = Server(directory / "data", directory)
    server.start()
    workers: dict[str, Child] = {}
    try:
        for point in mortal.POINTS:
            workers[point] = _begin(directory, server.url, (point,), point)
        for child in workers.values():
            child.wait_ready()
        ids = asyncio.run(_enqueue(server.url, workers[mortal.PUSH_UNREAD]))
        exit_codes = {point: child.exit_code(DEADLINE_S) for point, child in workers.items()}
        workers["heir"] = _begin(directory, server.url, mortal.POINTS).wait_ready()
        views = asyncio.run(_all_final(server.url, ids))
        assert workers.pop("heir").terminate() == 0
        assert server.child.terminate() == 0
    finally:
        for child in workers.values():
            child.kill()
        server.child.kill()
    return Aftermath(views, History(directory / "journal"), exit_codes)


def test_cases_name_every_point() -> None:
    assert tuple(case.point for case in CASES) == mortal.POINTS


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.point)
def test_worker_killed_there_costs_its_job_only_what_had_started(
    aftermath: Aftermath, case: Case
) -> None:
    view = aftermath.views[case.point]
    starts = aftermath.history.starts()[id_to_text(view.job_id)]

    assert aftermath.exit_codes[case.point] == -signal.SIGKILL
    assert view.state == State.SUCCEEDED
    assert len(starts) == case.starts
    assert (view.attempt, view.crash_count) == (case.attempt, case.crashes)
    assert view.token == max(starts), "the newest lease is the one that succeeded"


def test_nobody_was_told_twice_that_it_won(aftermath: Aftermath) -> None:
    acked = aftermath.history.leases("acked")
    by_point = {
        point: acked.get(id_to_text(view.job_id)) for point, view in aftermath.views.items()
    }

    assert by_point.pop(mortal.ACK_SENT) is None, "its worker never read the answer"
    assert by_point == {point: [aftermath.views[point].token] for point in by_point}


# --- workers and jobs


def _begin(directory: Path, url: str, queues: tuple[str, ...], point: str = "") -> Child:
    told = mortal.Mortal(
        target=url,
        journal=str(directory / "journal"),
        queues=queues,
        point=point,
        lease_ms=LEASES_MS.get(point, LEASE_MS),
    )
    return Child(
        [sys.executable, "-m", "tests.e2e.crash.mortal"],
        directory / f"{point or 'heir'}.log",
        MORTAL=msgspec.json.encode(told).decode(),
        PYTHONPATH=f"{ROOT}/src:{ROOT}",
    )


async def _enqueue(url: str, deaf: Child) -> dict[str, bytes]:
    """A job for every worker. The deaf one stands still, and is killed once it has its lease."""
    async with App(url) as app, asyncio.timeout(DEADLINE_S):
        client = await app.client()
        ids: dict[str, bytes] = {}
        deaf.send(signal.SIGSTOP)
        for point in mortal.POINTS:
            kind = mortal.HANDLER_OF.get(point, "in_loop")
            ids[point] = (await client.enqueue(point, kind, b"{}")).job_id
            if point == mortal.PUSH_UNREAD:
                while (await client.get_job(ids[point])).state == State.READY:
                    await asyncio.sleep(0.01)
                deaf.send(signal.SIGKILL)
        return ids


async def _all_final(url: str, ids: dict[str, bytes]) -> dict[str, JobView]:
    async with App(url) as app, asyncio.timeout(DEADLINE_S):
        return {
            point: await app.handle(id_to_text(job_id)).wait(f"{DEADLINE_S}s")
            for point, job_id in ids.items()
        }
