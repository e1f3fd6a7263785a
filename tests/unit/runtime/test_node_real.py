"""A node over real files and real threads: what simulation stands for is really so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.log.base import Commit, Epoch
from headrace.log.file.log import FileLog
from headrace.model import commands as c
from headrace.model.env import Env
from headrace.model.errors import HeadraceError, Locked
from headrace.model.ids import make_job_id, slot_of_queue
from headrace.model.job import JobSpec, State
from headrace.model.pushes import JobsPushed, Push
from headrace.model.replies import Reply
from headrace.runtime.env import real_env
from headrace.runtime.node import Node, NodeOptions

SPEC = JobSpec("q", "k")
WAIT_S = 30.0
"""Only a hung test waits this long."""


class GatedLog(FileLog):
    """Its appends stand at a gate that the test opens."""

    def __init__(self, env: Env, directory: str) -> None:
        super().__init__(env, directory)
        self.gate = threading.Event()
        self.gate.set()
        self.commits: list[Commit] = []

    def append(self, epoch: Epoch, commit: Commit) -> int:
        assert self.gate.wait(WAIT_S)
        self.commits.append(commit)
        return super().append(epoch, commit)


class Asker:
    def __init__(self) -> None:
        self.answers: dict[int, Reply | HeadraceError] = {}
        self.pushes: list[Push] = []
        self._changed = asyncio.Event()

    def send_reply(self, request_id: int, reply: Reply) -> None:
        self.answers[request_id] = reply

    def send_error(self, request_id: int, error: HeadraceError) -> None:
        self.answers[request_id] = error

    def send_push(self, push: Push) -> None:
        self.pushes.append(push)

    def flush(self) -> None:
        self._changed.set()

    async def until(self, answer_count: int, push_count: int = 0) -> None:
        async with asyncio.timeout(WAIT_S):
            while len(self.answers) < answer_count or len(self.pushes) < push_count:
                self._changed.clear()
                await self._changed.wait()


def _enqueue(number: int) -> c.Enqueue:
    job_id = make_job_id(1, slot_of_queue("q"), number.to_bytes(8, "big"))
    return c.Enqueue([SPEC], [c.NewJob(job_id, 0, b"{}")])


def _node(directory: Path) -> tuple[Node, GatedLog]:
    env = real_env()
    log = GatedLog(env, str(directory))
    return Node(env, log, NodeOptions(tune_gc=False)), log


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[Node, GatedLog]]:
    node, log = _node(tmp_path / "data")
    await node.start()
    yield node, log
    log.gate.set()
    await node.stop(0)


async def test_commands_that_come_while_an_append_is_held_open_share_the_next(
    served: tuple[Node, GatedLog],
) -> None:
    node, log = served
    asker = Asker()
    node.submit(_enqueue(0), asker, 1)
    await asker.until(1)
    log.gate.clear()
    before = len(log.commits)
    for number in range(1, 51):
        node.submit(_enqueue(number), asker, 1 + number)
        await asyncio.sleep(0)
    assert len(asker.answers) == 1

    log.gate.set()
    await asker.until(51)
    assert len(log.commits) - before == 2


async def test_job_is_pushed_run_and_acked_and_survives_a_restart(tmp_path: Path) -> None:
    node, _ = _node(tmp_path / "data")
    await node.start()
    worker = Asker()
    session = c.OpenSession(bytes(16), "w", "h", 1, "b", ("k",), ("q",), 10)
    node.submit(session, worker, 1)
    node.submit(_enqueue(1), worker, 2)
    await worker.until(2, push_count=1)
    pushed = worker.pushes[0]
    assert isinstance(pushed, JobsPushed)
    group = pushed.groups[0]
    job_id = group.jobs[0].job_id
    node.submit(c.Ack([(job_id, group.token, b"42")]), worker, 3)
    await worker.until(3)
    await node.stop(0)

    node, _ = _node(tmp_path / "data")
    recovered = await node.start()
    assert recovered.info.clean
    reader = Asker()
    node.submit(c.GetJob(job_id), reader, 1)
    await reader.until(1)
    job = reader.answers[1].job  # type: ignore[union-attr]
    assert (job.state, job.result) == (State.SUCCEEDED, b"42")
    await node.stop(0)


async def test_second_node_on_the_directory_is_refused_and_the_first_goes_on(
    served: tuple[Node, GatedLog], tmp_path: Path
) -> None:
    node, _ = served
    second, _ = _node(tmp_path / "data")
    with pytest.raises(Locked):
        await second.start()
    asker = Asker()
    node.submit(_enqueue(1), asker, 1)
    await asker.until(1)
    assert isinstance(asker.answers[1], Reply)


async def test_snapshot_of_a_real_directory_shortens_the_next_start(tmp_path: Path) -> None:
    env = real_env()
    published = asyncio.Event()

    def report(event: str, **fields: object) -> None:
        if event == "snapshot_published":
            published.set()

    options = NodeOptions(tune_gc=False, snapshot_wal_bytes=10_000)
    node = Node(env, FileLog(env, str(tmp_path / "data")), options, report=report)
    await node.start()
    asker = Asker()
    for number in range(200):
        node.submit(_enqueue(number), asker, 1 + number)
        if number % 20 == 0:
            await asker.until(number)
    await asker.until(200)
    async with asyncio.timeout(WAIT_S):
        await published.wait()
    await node.stop(0)

    node = Node(env, FileLog(env, str(tmp_path / "data")), options)
    recovered = await node.start()
    assert recovered.snapshot_bytes > 0
    assert recovered.engine.gauges()["headrace_jobs_ready"] == 200
    await node.stop(0)
