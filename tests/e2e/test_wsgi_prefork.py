"""A web server that imports its application once and then forks: every worker enqueues.

All of them share one directory, `App("./data")`: one owns it, the others connect to that
one, and when it is killed another takes over. Nothing that was answered may be lost.
"""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace import App, Worker, WorkerOptions
from headrace.log.file.layout import Layout
from headrace.log.file.lock import read_holder
from headrace.model.job import State
from headrace.runtime.env import real_env
from tests.e2e.crash.cluster import ROOT, Child

WORKERS = 4
REQUESTS = 200
CLIENTS = 16
DEADLINE_S = 40


class WebServer:
    """Over a directory of its own."""

    def __init__(self, directory: Path, logs: Path) -> None:
        self.data = directory
        self.port = 0
        self._errors = logs / "web.log"
        self._children: list[Child] = []

    def start(self, *command: str, warm: bool = False) -> Child:
        environ = {
            "HEADRACE_TEST_DATA": str(self.data),
            "HEADRACE_TEST_WARM": "1" if warm else "",
            "PYTHONPATH": f"{ROOT}/src:{ROOT}",
        }
        child = Child([sys.executable, "-m", *command], self._errors, **environ)
        self._children.append(child)
        return child

    def end(self) -> None:
        for child in self._children:
            child.kill()

    def get(self, number: int) -> tuple[int, str]:
        """(process that answered, id of the job). Raises: `OSError`, `HTTPException`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        try:
            connection.request("GET", f"/{number}")
            answer = connection.getresponse()
            body = answer.read().decode()
        finally:
            connection.close()
        assert answer.status == 200, self._errors.read_text()[-4_000:]
        if not body:  # killed within its headers
            raise http.client.HTTPException("the answer broke off")
        pid, job_id = body.split()
        return int(pid), job_id


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebServer]:
    web = WebServer(tmp_path / "data", tmp_path)
    try:
        yield web
    finally:
        web.end()


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "master owns the directory"])
def test_every_forked_worker_enqueues_and_every_job_runs(web: WebServer, warm: bool) -> None:
    child = web.start("tests.e2e.crash.prefork", str(WORKERS), warm=warm).wait_ready()
    web.port = int(child.lines[0])

    answers: list[tuple[int, str]] = []
    while len({pid for pid, _ in answers}) < WORKERS and len(answers) < 10 * REQUESTS:
        answers += _ask(web, REQUESTS)

    assert len({pid for pid, _ in answers}) == WORKERS
    _assert_all_run(web, {job_id for _, job_id in answers}, more=warm)


def test_owner_among_forked_workers_is_killed_and_nothing_answered_is_lost(web: WebServer) -> None:
    child = web.start("tests.e2e.crash.prefork", str(WORKERS)).wait_ready()
    web.port = int(child.lines[0])
    answers = _ask(web, REQUESTS // 2)
    owner = read_holder(real_env().disk, Layout(str(web.data))).pid
    assert owner in {pid for pid, _ in answers}

    answers += _ask(web, REQUESTS // 2, meanwhile=lambda: os.kill(owner, signal.SIGKILL))

    assert len(answers) >= REQUESTS - CLIENTS, "only what the killed one had in hand may fail"
    _assert_all_run(web, {job_id for _, job_id in answers}, more=True)


@pytest.mark.skipif(importlib.util.find_spec("gunicorn") is None, reason="gunicorn is missing")
def test_gunicorn_with_preload_enqueues_from_every_worker(web: WebServer) -> None:
    options = ["--preload", "--workers", str(WORKERS), "--bind", "127.0.0.1:0"]
    child = web.start("gunicorn", *options, "tests.e2e.crash.wsgi:application", warm=True)
    web.port = _port_in_log(child)

    answers: list[tuple[int, str]] = []
    while len({pid for pid, _ in answers}) < 2 and len(answers) < 10 * REQUESTS:
        answers += _ask(web, REQUESTS)

    assert len({pid for pid, _ in answers}) > 1
    _assert_all_run(web, {job_id for _, job_id in answers}, more=True)
    assert child.terminate() == 0, child.last_words()


# --- what they share


def _ask(
    web: WebServer, count: int, meanwhile: Callable[[], None] = lambda: None
) -> list[tuple[int, str]]:
    """Answers to `count` requests of many clients, without those that broke off."""

    def one(number: int) -> tuple[int, str] | None:
        if number == count // 3:
            meanwhile()
        try:
            return web.get(number)
        except (OSError, http.client.HTTPException):
            return None

    with ThreadPoolExecutor(CLIENTS) as pool:
        return [answer for answer in pool.map(one, range(count)) if answer is not None]


def _assert_all_run(web: WebServer, answered: set[str], *, more: bool) -> None:
    """Every job that was answered succeeds; `more`: others may be there as well."""

    async def run_all() -> dict[str, State]:
        async with App(str(web.data)) as app, asyncio.timeout(DEADLINE_S):

            @app.job(queue="web")
            async def count(number: int) -> int:
                return number

            worker = Worker(app, WorkerOptions(concurrency=50))
            running = asyncio.create_task(worker.run())
            states = {one: State((await app.handle(one).wait("30s")).state) for one in answered}
            queue = await (await app.client()).get_queue("web")
            worker.stop()
            await running
        assert more or queue.enqueued_total == len(answered)
        return states

    assert set(asyncio.run(run_all()).values()) == {State.SUCCEEDED}


def _port_in_log(child: Child) -> int:
    child.wait_for_event("Listening at")
    said = child.last_words().split("Listening at: http://127.0.0.1:")[1]
    return int(said.split()[0])
