"""`App("./data")` from many processes: succession, forks, an owner that stands still."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace import App, OwnerUnresponsive
from headrace.client.embedded import EmbeddedTarget
from headrace.client.reconnect import Link
from headrace.model.errors import BadRequest, Draining, Internal
from headrace.protocol.connection import ServerConnection
from tests.e2e.sdk_kit import Program, ServerProcess, until, working

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no server on Windows")

SPEAKER = """
import sys
from headrace import App

app = App(sys.argv[1])

@app.job()
async def noop(number: int) -> None: ...

for line in sys.stdin:
    first, count = map(int, line.split())
    if count == 1:
        noop.enqueue_sync(first)
    else:
        app.enqueue_many_sync(noop.job(first + step) for step in range(count))
    print("enqueued", flush=True)
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    """Ended after the test, however it went."""
    started: list[Program] = []
    yield started
    for program in started:
        program.send(signal.SIGCONT)
        program.end()


def speaker(programs: list[Program], directory: Path) -> Program:
    programs.append(Program(SPEAKER, str(directory)))
    return programs[-1]


def owner_pid(app: App) -> int:
    target = app.connections.target
    assert isinstance(target, EmbeddedTarget)
    return target.holder().pid


async def off_loop(call: object, *args: object) -> object:
    return await asyncio.get_running_loop().run_in_executor(None, call, *args)  # type: ignore[arg-type]


async def test_first_process_owns_the_directory_and_others_connect(
    directory: Path, programs: list[Program]
) -> None:
    async with App(str(directory)) as app:
        client = await app.client()
        assert owner_pid(app) == os.getpid()

        other = speaker(programs, directory)
        other.say("1 1")
        assert await off_loop(other.line) == "enqueued"

        assert (await client.get_queue("default")).ready == 1
        assert owner_pid(app) == os.getpid()


async def test_directory_is_free_once_its_last_application_is_closed(
    directory: Path, programs: list[Program]
) -> None:
    async with App(str(directory)) as app:
        await app.client()

    other = speaker(programs, directory)
    other.say("1 1")
    assert await off_loop(other.line) == "enqueued"
    assert owner_pid(app) == other.pid


def test_process_that_just_ends_leaves_the_directory_in_good_order(directory: Path) -> None:
    command = [sys.executable, "-c", SPEAKER, str(directory)]
    ended = subprocess.run(command, input=b"1 1\n", capture_output=True, timeout=20)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"enqueued\n", b"")
    assert b'"clean":true' in (directory / "meta" / "CURRENT").read_bytes()
    assert not (directory / "headrace.sock").exists()


async def test_another_process_takes_over_within_a_second_when_the_owner_is_killed(
    directory: Path, programs: list[Program]
) -> None:
    owner = speaker(programs, directory)
    owner.say("0 10000")
    assert await off_loop(owner.line) == "enqueued"

    async with App(str(directory)) as app:
        client = await app.client()
        assert owner_pid(app) == owner.pid

        owner.send(signal.SIGKILL)
        killed_s = time.monotonic()
        accepted = await client.enqueue("other", "noop", b"{}")
        took_s = time.monotonic() - killed_s

        assert owner_pid(app) == os.getpid()
        assert (await client.get_queue("default")).ready == 10_000
        assert (await client.get_job(accepted.job_id)).queue == "other"
    assert took_s < 1.0


async def test_calls_in_flight_survive_the_owner(directory: Path, programs: list[Program]) -> None:
    owner = speaker(programs, directory)
    owner.say("0 1")
    assert await off_loop(owner.line) == "enqueued"

    async with App(str(directory)) as app:

        @app.job()
        async def noop(number: int) -> None: ...

        answered: list[bool] = []

        async def produce(first: int) -> None:
            for number in range(first, first + 200):
                answered.append((await noop.enqueue(number)).created)

        producing = asyncio.gather(*(produce(1_000 * part) for part in range(5)))
        await until(lambda: len(answered) > 100)
        owner.send(signal.SIGKILL)
        await producing

        client = await app.client()
        assert (await client.get_queue("default")).ready == 1 + 1_000
    assert answered == [True] * 1_000


async def test_worker_goes_on_under_the_next_owner(
    directory: Path, programs: list[Program]
) -> None:
    owner = speaker(programs, directory)
    owner.say("0 1")
    assert await off_loop(owner.line) == "enqueued"

    app = App(str(directory))
    started, finish = asyncio.Event(), asyncio.Event()

    @app.job(kind="noop")
    async def handle(number: int) -> int:
        if number == 7:
            started.set()
            await finish.wait()
        return number

    async with app, working(app):
        job = await handle.enqueue(7)
        await started.wait()
        owner.send(signal.SIGKILL)
        later = await handle.enqueue(8)
        finish.set()
        assert await job.result("20s") == 7
        assert await later.result("20s") == 8
        assert (await job.view()).attempt == 1


async def test_owner_that_stands_still_is_named_with_its_pid(
    directory: Path, programs: list[Program]
) -> None:
    owner = speaker(programs, directory)
    owner.say("0 1")
    assert await off_loop(owner.line) == "enqueued"
    owner.send(signal.SIGSTOP)
    stat = Path(f"/proc/{owner.pid}/stat")
    await until(lambda: not stat.exists() or stat.read_text().split(")")[1].split()[0] == "T")

    with pytest.raises(OwnerUnresponsive, match=str(owner.pid)) as refusal:
        await App(str(directory)).client()

    assert refusal.value.details["pid"] == owner.pid


async def test_server_that_starts_on_the_directory_gets_it(directory: Path) -> None:
    server = ServerProcess(directory)
    async with App(str(directory)) as app:
        client = await app.client()
        await client.enqueue("default", "noop", b"{}")

        await off_loop(server.start)
        try:
            await client.enqueue("default", "noop", b"{}")
            assert owner_pid(app) != os.getpid()
            assert (await client.get_queue("default")).ready == 2
        finally:
            await off_loop(server.stop)


async def test_socket_path_may_be_longer_than_an_address(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 60) / ("e" * 60)
    directory.parent.mkdir()

    async with App(str(directory)) as app:
        accepted = await (await app.client()).enqueue("default", "noop", b"{}")

    assert accepted.created


PRE_FORK = """
import os, sys, time
from headrace import App

app = App(sys.argv[1])

@app.job()
def noop(number: int) -> None: ...

noop.enqueue_sync(-1)                      # the master preloads, and owns the directory
children = []
for worker in range(4):
    pid = os.fork()
    if pid == 0:
        ids = {noop.enqueue_sync(number).id for number in range(25)}
        os._exit(0 if len(ids) == 25 else 1)
    children.append(pid)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
print("children", codes, flush=True)

pid = os.fork()
if pid == 0:                               # one that outlives its master
    print("ready", flush=True)
    master = os.getppid()
    while os.getppid() == master:
        time.sleep(0.01)
    noop.enqueue_sync(99)
    print("orphan enqueued", flush=True)
    os._exit(0)
sys.stdin.readline()
noop.enqueue_sync(98)
print("master enqueued", flush=True)
os.kill(os.getpid(), 9)
"""


async def test_forked_workers_of_a_preloading_server_share_the_directory(
    directory: Path, programs: list[Program]
) -> None:
    master = Program(PRE_FORK, str(directory))
    programs.append(master)

    assert await off_loop(master.line) == "children [0, 0, 0, 0]"
    assert await off_loop(master.line) == "ready"
    master.say("go on")
    assert await off_loop(master.line) == "master enqueued"
    assert await off_loop(master.line) == "orphan enqueued"

    async with App(str(directory)) as app:
        queue = await (await app.client()).get_queue("default")
    assert queue.ready == 1 + 4 * 25 + 2


async def test_application_that_comes_while_the_owner_leaves_takes_over(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    path = directory / "headrace.sock"
    farewell = ServerConnection()
    farewell.refuse(Draining("The server has stopped."))
    said = b"".join(farewell.take_output())

    def say_and_leave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path.unlink(missing_ok=True)
        leaving.close()
        writer.write(said)
        writer.close()

    leaving = await asyncio.start_unix_server(say_and_leave, path)
    async with asyncio.timeout(10), App(str(directory)) as app:
        await app.client()
        assert owner_pid(app) == os.getpid()


async def test_client_whose_link_has_failed_is_made_anew_by_the_next_call(
    directory: Path,
) -> None:
    async with App(str(directory)) as app:
        client = await app.client()
        link = client._link
        assert isinstance(link, Link)
        link._fail(Internal("The directory could not be taken over."), tell=True)
        with pytest.raises(Internal):
            await client.get_queue("default")

        assert (await (await app.client()).enqueue("default", "noop", b"{}")).created


def test_sync_call_from_inside_a_sync_call_is_refused_instead_of_waiting_for_itself(
    directory: Path,
) -> None:
    app = App(str(directory))

    async def nested() -> None:
        app.run_sync(asyncio.sleep(0))

    with app, pytest.raises(BadRequest, match="Await the async form"):
        app.run_sync(asyncio.wait_for(nested(), 5))


def test_embedded_engine_leaves_the_collector_of_its_host_alone(tmp_path: Path) -> None:
    """Thresholds and frozen objects belong to the application."""
    before = (gc.get_threshold(), gc.get_freeze_count(), gc.isenabled())
    app = App(str(tmp_path / "data"))

    @app.job()
    async def send(number: int) -> None: ...

    send.enqueue_sync(1)
    after = (gc.get_threshold(), gc.get_freeze_count(), gc.isenabled())
    app.close_sync()

    assert before == after
