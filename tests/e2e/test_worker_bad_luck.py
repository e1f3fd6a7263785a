"""What goes wrong between a worker and its server, and what the worker does about it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from headrace import App, State
from headrace.client.target import AnyLink, LinkEvents, Target
from headrace.model.commands import Command, OpenSession
from headrace.model.errors import CannotConnect
from headrace.runtime.env import real_env
from tests.e2e.crash.cluster import CLI, ROOT, Child
from tests.e2e.sdk_kit import Events, serving, until, working


class LosesFirstOpen:
    """A target whose first session is opened, and whose answer then never comes."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.lost = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def make_link(self, events: LinkEvents) -> AnyLink:
        return _LosingLink(self, self._target.make_link(events))


class _LosingLink:
    def __init__(self, owner: LosesFirstOpen, link: Any) -> None:
        self._owner = owner
        self._link = link

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    def call(self, command: Command) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = self._link.call(command)
        if not isinstance(command, OpenSession) or self._owner.lost:
            return answer
        self._owner.lost = True
        loop = asyncio.get_running_loop()
        withheld: asyncio.Future[Any] = loop.create_future()

        def lose(_: Any) -> None:
            withheld.set_exception(CannotConnect("the connection was lost before the answer"))
            self._link._connection.abort(CannotConnect("lost"))

        answer.add_done_callback(lose)
        return withheld


async def test_worker_whose_first_answer_was_lost_lives_on_in_that_session(tmp_path: Path) -> None:
    async with serving(tmp_path / "data") as url, App(url) as app:
        app.connections.target = LosesFirstOpen(app.connections.target)

        @app.job()
        async def double(number: int) -> int:
            return 2 * number

        events = Events()
        async with asyncio.timeout(20), working(app, report=events, lease_ms=1_000) as worker:
            assert await (await double.enqueue(21)).result("10s") == 42
            client = await app.client()
            [session] = await client.list_sessions()
            assert session.session_id == worker.session_id
            assert worker._heartbeat is not None

    assert events.names().count("worker_connected") == 1


async def test_jobs_run_once_however_often_the_worker_compares_its_leases(tmp_path: Path) -> None:
    runs: Counter[int] = Counter()

    async with serving(tmp_path / "data") as url, App(url) as app:

        @app.job()
        async def count(number: int) -> None:
            runs[number] += 1
            if number % 7 == 0:
                await asyncio.sleep(0)

        async with asyncio.timeout(30), working(app, concurrency=20) as worker:

            async def compare() -> None:
                while True:
                    worker._resume_from_thread()
                    await asyncio.sleep(0)

            comparing = asyncio.create_task(compare())
            jobs = await app.enqueue_many(count.job(number) for number in range(2_000))
            await asyncio.gather(*(job.result() for job in jobs))
            comparing.cancel()

    assert len(runs) == runs.total() == 2_000


ORPHANED = """
import os, time
from headrace import App, Retry

app = App(os.environ["ORPHAN_DATA"])

@app.job(executor="process", retry=Retry(attempts=1, crashes=1))
def never_ends(path: str) -> None:
    with open(path, "w") as file:
        file.write(f"{os.getpid()} ")
        file.flush()
    while True:
        time.sleep(0.01)
"""


async def test_child_process_of_a_killed_worker_ends_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "orphan_jobs.py").write_text(ORPHANED)
    async with serving(tmp_path / "data") as url, App(url) as app:
        worker = Child(
            [sys.executable, "-c", CLI, "worker", "orphan_jobs:app"],
            tmp_path / "worker.log",
            ORPHAN_DATA=url,
            PYTHONPATH=f"{ROOT}/src:{tmp_path}",
        )
        said = tmp_path / "pid"
        try:
            await asyncio.to_thread(worker.wait_ready)
            client = await app.client()
            await client.enqueue("default", "never_ends", b'{"path":"%s"}' % bytes(said))
            await until(lambda: said.exists() and said.read_text().endswith(" "))
            child_pid = int(said.read_text())

            worker.process.kill()

            await until(lambda: not real_env().host.process_exists(child_pid))
        finally:
            worker.kill()
    assert "Traceback" not in worker.last_words()


STUCK = """
import os, threading
from headrace import App

app = App(os.environ["STUCK_DATA"])

@app.job()
def stuck(path: str) -> None:
    open(path, "w").close()
    threading.Event().wait(60)
"""


async def test_worker_told_twice_to_stop_does_not_wait_for_a_stuck_thread(tmp_path: Path) -> None:
    (tmp_path / "stuck_jobs.py").write_text(STUCK)
    async with serving(tmp_path / "data") as url, App(url) as app:
        worker = Child(
            [sys.executable, "-c", CLI, "worker", "stuck_jobs:app"],
            tmp_path / "worker.log",
            STUCK_DATA=url,
            PYTHONPATH=f"{ROOT}/src:{tmp_path}",
        )
        said = tmp_path / "started"
        try:
            await asyncio.to_thread(worker.wait_ready)
            client = await app.client()
            job = await client.enqueue("default", "stuck", b'{"path":"%s"}' % bytes(said))
            await until(said.exists)
            worker.send(signal.SIGTERM)
            while (await client.list_sessions())[0].credit != 0:
                await asyncio.sleep(0.02)
            worker.send(signal.SIGTERM)
            code = await asyncio.to_thread(worker.exit_code, 10)
            view = await client.get_job(job.job_id)
        finally:
            worker.kill()
    assert code == 130
    assert (State(view.state), view.attempt) == (State.READY, 0)
