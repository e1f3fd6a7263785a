"""Who owns a directory, when several applications of one process come and go at once."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from headrace import App
from headrace.client.embedded import EmbeddedTarget
from headrace.model.env import Env, LoopThread
from headrace.model.errors import UnsafeDirectory
from headrace.runtime.env import real_env
from headrace.runtime.real_disk import RealDisk
from headrace.runtime.real_threads import RealThreads

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no server on Windows")

WAIT_S = 10.0
"""Only a hung test waits this long."""


class Threads(RealThreads):
    """Remembers the names of the loops that it gave."""

    def __init__(self) -> None:
        self.loops: list[str] = []

    def loop_thread(self, name: str) -> LoopThread:
        self.loops.append(name)
        return super().loop_thread(name)


class Disk(RealDisk):
    """A lock can be taken only while the gate is open."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def try_lock(self, fd: int) -> bool:
        self.asked.set()
        assert self.gate.wait(WAIT_S)
        return super().try_lock(fd)


@pytest.fixture
def threads() -> Threads:
    return Threads()


@pytest.fixture
def disk() -> Iterator[Disk]:
    made = Disk()
    yield made
    made.gate.set()


@pytest.fixture
def env(threads: Threads, disk: Disk) -> Env:
    return msgspec.structs.replace(real_env(), threads=threads, disk=disk)  # type: ignore[type-var]


def owns(app: App) -> bool:
    target = app.connections.target
    assert isinstance(target, EmbeddedTarget)
    return target._ownership.is_ours


async def came(event: threading.Event) -> None:
    while not event.is_set():
        await asyncio.sleep(0.001)


async def test_applications_that_come_at_once_start_one_engine_and_their_loop_goes_on(
    env: Env, threads: Threads, disk: Disk, tmp_path: Path
) -> None:
    apps = [App(str(tmp_path / "data"), env=env) for _ in range(5)]
    disk.gate.clear()
    connecting = [asyncio.create_task(app.client()) for app in apps]
    await came(disk.asked)
    connecting.append(asyncio.create_task(App(str(tmp_path / "data"), env=env).client()))
    disk.gate.set()
    async with asyncio.timeout(WAIT_S):
        clients = await asyncio.gather(*connecting)

    assert threads.loops == ["headrace-engine"]
    for client in clients:
        await client.close()
    assert not owns(apps[0])


async def test_one_that_gives_up_does_not_end_the_attempt_of_another(
    env: Env, threads: Threads, disk: Disk, tmp_path: Path
) -> None:
    first, second = (App(str(tmp_path / "data"), env=env) for _ in range(2))
    disk.gate.clear()
    impatient, patient = (asyncio.create_task(app.client()) for app in (first, second))
    await came(disk.asked)
    impatient.cancel()
    await asyncio.wait([impatient])
    disk.gate.set()
    async with asyncio.timeout(WAIT_S):
        await patient

    assert impatient.cancelled()
    assert threads.loops == ["headrace-engine"]
    await second.close()


async def test_each_is_told_why_the_directory_cannot_be_used_and_the_next_call_tries_again(
    env: Env, tmp_path: Path
) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    directory.chmod(0o777)
    apps = [App(str(directory), env=env) for _ in range(3)]
    async with asyncio.timeout(WAIT_S):
        refusals = await asyncio.gather(*(app.client() for app in apps), return_exceptions=True)
        directory.chmod(0o700)
        await apps[0].client()

    assert [type(refusal) for refusal in refusals] == [UnsafeDirectory] * 3
    assert owns(apps[0])
    await apps[0].close()


async def test_application_that_comes_while_the_directory_is_left_owns_it_again(
    env: Env, threads: Threads, tmp_path: Path
) -> None:
    leaver, comer = (App(str(tmp_path / "data"), env=env) for _ in range(2))
    for _ in range(5):
        await leaver.client()
        leaving = asyncio.create_task(leaver.close())
        while owns(leaver):
            await asyncio.sleep(0)
        async with asyncio.timeout(WAIT_S):
            await (await comer.client()).enqueue("default", "noop", b"{}")
            await leaving
        assert owns(comer)
        await comer.close()

    assert threads.loops == ["headrace-engine"] * 10


async def test_each_seam_is_a_process_of_its_own(tmp_path: Path) -> None:
    first, second = (App(str(tmp_path / "data"), env=real_env()) for _ in range(2))
    async with asyncio.timeout(WAIT_S):
        await first.client()
        client = await second.client()
        assert (owns(first), owns(second)) == (True, False)
        await first.close()
        await client.enqueue("default", "noop", b"{}")

    assert (owns(first), owns(second)) == (False, True)
    await second.close()
