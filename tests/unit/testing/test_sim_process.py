"""Simulated machines: what a process may still do when it is dead, stopped or blocked."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from headrace.model.env import EnvParts
from headrace.testing.sim_disk import Fault, SimCrash
from headrace.testing.sim_loop import SimLoop
from headrace.testing.sim_process import ProcessKilled, SimMachine


@pytest.fixture
def loop() -> Iterator[SimLoop]:
    loop = SimLoop()
    yield loop
    loop.close()


@pytest.fixture
def machine(loop: SimLoop) -> SimMachine:
    return SimMachine(loop, seed=1)


async def for_ever(env: EnvParts) -> None:
    await asyncio.Event().wait()


def ticking(ticks: list[float]) -> Callable[[EnvParts], Any]:
    """A main that notes the time, once a second."""

    async def main(env: EnvParts) -> None:
        while True:
            ticks.append(asyncio.get_running_loop().time() - 1_000)
            await asyncio.sleep(1)

    return main


def test_what_main_returns_or_raises_is_the_result_of_the_process(
    loop: SimLoop, machine: SimMachine
) -> None:
    async def returning(env: EnvParts) -> int:
        return env.host.pid()

    async def raising(env: EnvParts) -> None:
        raise ValueError("no")

    first = machine.start("first", returning)
    second = machine.start("second", raising)

    assert loop.run_until_complete(first.result()) == first.pid
    with pytest.raises(ValueError, match="no"):
        loop.run_until_complete(second.result())
    assert not first.alive
    assert not second.alive


def test_a_dead_process_runs_nothing_not_even_its_finally(
    loop: SimLoop, machine: SimMachine
) -> None:
    done: list[str] = []

    async def main(env: EnvParts) -> None:
        asyncio.get_running_loop().call_later(2, done.append, "timer")
        try:
            await asyncio.sleep(3)
        finally:
            done.append("finally")

    async def scene() -> None:
        process = machine.start("victim", main)
        await asyncio.sleep(1)
        process.kill()
        with pytest.raises(ProcessKilled):
            await process.result()
        await asyncio.sleep(10)

    loop.run_until_complete(scene())

    assert done == []


def test_the_collector_runs_no_code_of_a_dead_process(loop: SimLoop, machine: SimMachine) -> None:
    done: list[str] = []
    known: list[asyncio.Event] = []

    async def child() -> None:
        event = asyncio.Event()
        known.append(event)
        try:
            await event.wait()
        finally:
            done.append("finally")

    async def main(env: EnvParts) -> None:
        asyncio.create_task(child())  # noqa: RUF006 - the event alone leads to it
        await asyncio.Event().wait()

    async def scene() -> None:
        process = machine.start("victim", main)
        await asyncio.sleep(1)
        process.kill()
        known.clear()
        gc.collect()

    loop.run_until_complete(scene())

    assert done == []


def test_code_of_a_dead_process_that_is_run_all_the_same_cannot_reach_the_disk(
    loop: SimLoop, machine: SimMachine
) -> None:
    process = machine.start("victim", for_ever)
    fd = process.env.disk.open("/file", create=True, write=True)
    process.kill()

    with pytest.raises(SimCrash):
        process.env.disk.pwrite(fd, b"late", 0)
    assert machine.disk.peek("/file") == b""


def test_a_paused_process_catches_up_in_order_and_sees_that_it_is_late(
    loop: SimLoop, machine: SimMachine
) -> None:
    ticks: list[float] = []

    async def scene() -> None:
        process = machine.start("ticker", ticking(ticks))
        await asyncio.sleep(2.5)
        process.pause()
        await asyncio.sleep(10)
        process.go_on()
        await asyncio.sleep(1.2)

    loop.run_until_complete(scene())

    assert ticks == [0, 1, 2, 12.5, 13.5]


def test_what_a_stopped_process_missed_runs_in_order_and_what_timed_out_comes_last(
    loop: SimLoop, machine: SimMachine
) -> None:
    seen: list[str] = []

    async def main(env: EnvParts) -> None:
        own = asyncio.get_running_loop()
        own.call_later(3, seen.append, "timer 3")
        own.call_later(2, seen.append, "timer 2")
        await asyncio.Event().wait()

    async def scene() -> None:
        process = machine.start("p", main)
        await asyncio.sleep(1)
        process.pause()
        await asyncio.sleep(5)
        process.call(lambda: seen.append("call 1"))
        process.call(lambda: seen.append("call 2"))
        await asyncio.sleep(1)
        assert seen == []
        process.go_on()
        await asyncio.sleep(0)

    loop.run_until_complete(scene())

    assert seen == ["call 1", "call 2", "timer 2", "timer 3"]


def test_a_blocked_thread_stands_still_while_the_heartbeat_thread_goes_on(
    loop: SimLoop, machine: SimMachine
) -> None:
    main_ticks: list[float] = []
    beats: list[float] = []

    async def main(env: EnvParts) -> None:
        thread = env.threads.loop_thread("headrace-heartbeat")
        thread.submit(ticking(beats)(env))
        await ticking(main_ticks)(env)

    async def scene() -> None:
        process = machine.start("worker", main)
        await asyncio.sleep(0.5)
        process.block(3.0)
        await asyncio.sleep(3.2)

    loop.run_until_complete(scene())

    assert main_ticks == [0, 3.5]
    assert beats == [0, 1, 2, 3]


def test_a_pause_in_the_middle_of_a_block_does_not_end_it(
    loop: SimLoop, machine: SimMachine
) -> None:
    ticks: list[float] = []

    async def scene() -> None:
        process = machine.start("worker", ticking(ticks))
        await asyncio.sleep(0.5)
        process.block(5.0)
        process.pause()
        await asyncio.sleep(1)
        process.go_on()
        await asyncio.sleep(3)
        assert ticks == [0]
        process.pause()
        await asyncio.sleep(4)
        assert ticks == [0]
        process.go_on()
        await asyncio.sleep(0)

    loop.run_until_complete(scene())

    assert ticks == [0, 8.5]


def test_of_two_pauses_the_one_that_ends_last_counts(loop: SimLoop, machine: SimMachine) -> None:
    ticks: list[float] = []

    async def scene() -> None:
        process = machine.start("worker", ticking(ticks))
        await asyncio.sleep(0.5)
        process.pause()
        process.pause()
        await asyncio.sleep(1)
        process.go_on()
        await asyncio.sleep(1)
        assert process.paused
        process.go_on()
        await asyncio.sleep(0)

    loop.run_until_complete(scene())

    assert ticks == [0, 2.5]


def test_each_thread_has_its_own_loop_and_answers_come_back_to_the_asker(
    loop: SimLoop, machine: SimMachine
) -> None:
    async def main(env: EnvParts) -> None:
        thread = env.threads.loop_thread("other")

        async def there() -> Any:
            assert thread.is_current
            return asyncio.get_running_loop()

        assert not thread.is_current
        other = await asyncio.wrap_future(thread.submit(there()))
        assert other is not asyncio.get_running_loop()

    loop.run_until_complete(machine.start("p", main).result())


def test_a_thread_that_stops_cancels_what_still_runs_on_it(
    loop: SimLoop, machine: SimMachine
) -> None:
    ended: list[str] = []

    async def main(env: EnvParts) -> None:
        thread = env.threads.loop_thread("other")

        async def endless() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("endless")

        future = thread.submit(endless())
        await asyncio.sleep(1)
        thread.stop()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wrap_future(future)
        late = thread.submit(endless())
        assert late.cancelled()

    loop.run_until_complete(machine.start("p", main).result())

    assert ended == ["endless"]


def test_blocking_for_another_simulated_thread_is_refused(
    loop: SimLoop, machine: SimMachine
) -> None:
    async def main(env: EnvParts) -> None:
        future = env.threads.loop_thread("other").submit(asyncio.sleep(1))
        with pytest.raises(RuntimeError, match="blocking its own"):
            future.result()
        with pytest.raises(NotImplementedError):
            asyncio.get_running_loop().run_in_executor(None, print)

    loop.run_until_complete(machine.start("p", main).result())


def test_locks_and_descriptors_end_with_their_process_only(
    loop: SimLoop, machine: SimMachine
) -> None:
    first = machine.start("first", for_ever)
    second = machine.start("second", for_ever)
    fd = first.env.disk.open("/LOCK", create=True, write=True)
    assert first.env.disk.try_lock(fd)
    other = second.env.disk.open("/LOCK")
    assert not second.env.disk.try_lock(other)

    first.kill()

    assert second.env.disk.try_lock(other)


@pytest.mark.parametrize("seed", range(8))
def test_the_io_call_of_a_killed_process_is_done_up_to_some_system_call(
    loop: SimLoop, seed: int
) -> None:
    assert _written_after_kill(loop, seed) in (b"", b"a", b"ab")


def test_the_io_call_of_a_killed_process_ends_anywhere() -> None:
    found = set()
    for seed in range(30):
        loop = SimLoop()
        found.add(_written_after_kill(loop, seed))
        loop.close()
    assert found == {b"", b"a", b"ab"}


def _written_after_kill(loop: SimLoop, seed: int) -> bytes:
    machine = SimMachine(loop, seed)
    answers: list[Any] = []

    async def main(env: EnvParts) -> None:
        fd = env.disk.open("/file", create=True, write=True)

        def append() -> None:
            env.disk.pwrite(fd, b"a", 0)
            env.disk.pwrite(fd, b"b", 1)

        thread = env.threads.io_thread("commit", asyncio.get_running_loop())
        thread.submit(append, lambda result, error: answers.append(error))
        await asyncio.Event().wait()

    async def scene() -> None:
        machine.io_latency_s = 1.0
        process = machine.start("victim", main)
        await asyncio.sleep(0.1)
        process.kill()
        await asyncio.sleep(5)

    loop.run_until_complete(scene())
    assert answers == []
    return machine.disk.peek("/file")


def test_io_goes_on_while_its_owner_is_blocked(loop: SimLoop, machine: SimMachine) -> None:
    done_at: list[float] = []

    async def main(env: EnvParts) -> None:
        thread = env.threads.io_thread("commit", asyncio.get_running_loop())
        fd = env.disk.open("/file", create=True, write=True)
        thread.submit(
            lambda: env.disk.pwrite(fd, b"a", 0), lambda *_: done_at.append(loop.time() - 1_000)
        )
        await asyncio.Event().wait()

    async def scene() -> None:
        machine.io_latency_s = 1.0
        process = machine.start("p", main)
        await asyncio.sleep(0.1)
        process.block(9.9)
        await asyncio.sleep(5)
        assert machine.disk.peek("/file") == b"a"
        assert done_at == []
        await asyncio.sleep(6)

    loop.run_until_complete(scene())

    assert done_at == [10.0]


def test_a_power_cut_ends_all_processes_and_keeps_only_what_was_synced(
    loop: SimLoop, machine: SimMachine
) -> None:
    first, second = machine.start("a", for_ever), machine.start("b", for_ever)
    disk, boot_id = first.env.disk, first.env.host.boot_id()
    fd = disk.open("/file", create=True, write=True)
    disk.fsync_dir("/")
    disk.pwrite(fd, b"kept", 0)
    disk.fdatasync(fd)
    disk.pwrite(fd, b"lost" * 1_000, 4)

    machine.power_cut(random.Random(1))

    assert not first.alive
    assert not second.alive
    assert machine.disk.peek("/file")[:4] == b"kept"
    assert machine.start("c", for_ever).env.host.boot_id() != boot_id


def test_power_that_fails_inside_a_call_ends_the_process_there(
    loop: SimLoop, machine: SimMachine
) -> None:
    seen: list[str] = []

    async def main(env: EnvParts) -> None:
        machine.disk.faults[machine.disk.calls + 1] = Fault(crash="before")
        try:
            env.disk.mkdir("/data")
        except Exception:
            seen.append("handled")
        seen.append("went on")

    async def scene() -> None:
        bystander = machine.start("bystander", for_ever)
        process = machine.start("p", main)
        await process.wait()
        assert not bystander.alive
        machine.power_cut(random.Random(0))
        machine.start("next", for_ever).env.disk.mkdir("/data")

    loop.run_until_complete(scene())

    assert seen == []
    assert machine.errors == []


def test_disk_faults_come_by_chance_too(loop: SimLoop, machine: SimMachine) -> None:
    draw = random.Random(1)

    def one_in_three(method: str, path: str) -> Fault | None:
        unlucky = method == "mkdir" and draw.random() < 1 / 3
        return Fault(error_number=errno.EIO) if unlucky else None

    async def main(env: EnvParts) -> list[str]:
        for number in range(30):
            with contextlib.suppress(OSError):
                env.disk.mkdir(f"/{number}")
        return env.disk.listdir("/")

    machine.disk.befall = one_in_three
    made = loop.run_until_complete(machine.start("p", main).result())

    assert 15 <= len(made) <= 25


def test_a_process_that_kills_itself_does_not_come_back_from_it(
    loop: SimLoop, machine: SimMachine
) -> None:
    seen: list[str] = []

    async def main(env: EnvParts) -> None:
        machine.processes[0].kill()
        seen.append("went on")

    process = machine.start("p", main)
    with pytest.raises(ProcessKilled):
        loop.run_until_complete(process.result())
    assert seen == []


def test_work_given_to_a_process_is_answered_or_fails_with_its_death(
    loop: SimLoop, machine: SimMachine
) -> None:
    async def five() -> int:
        return 5

    async def scene() -> None:
        process = machine.start("p", for_ever)
        assert await process.run(five) == 5
        endless: asyncio.Future[Any] = process.run(asyncio.Event().wait)
        await asyncio.sleep(1)
        process.kill()
        with pytest.raises(ProcessKilled):
            await endless
        with pytest.raises(ProcessKilled):
            await process.run(five)

    loop.run_until_complete(scene())


def test_exceptions_that_nobody_handled_are_kept_for_the_test(
    loop: SimLoop, machine: SimMachine
) -> None:
    def fail() -> None:
        raise ValueError("oops")

    async def scene() -> None:
        machine.start("p", for_ever).call(fail)
        await asyncio.sleep(1)

    loop.run_until_complete(scene())

    (name, context), *_ = machine.errors
    assert name == "p"
    assert repr(context["exception"]) == "ValueError('oops')"


def test_clocks_jump_and_the_machine_sleeps(loop: SimLoop, machine: SimMachine) -> None:
    clock = machine.start("p", for_ever).env.clock
    wall_ms, mono_ns, boot_ns = clock.wall_ms(), clock.mono_ns(), clock.boot_ns()

    machine.shift_wall(-5_000)
    machine.suspend(60_000)

    assert clock.wall_ms() - wall_ms == 55_000
    assert clock.mono_ns() == mono_ns
    assert clock.boot_ns() - boot_ns == 60_000_000_000


def test_entropy_is_the_same_for_the_same_seed_and_differs_between_processes() -> None:
    def drawn(seed: int) -> list[bytes]:
        loop = SimLoop()
        machine = SimMachine(loop, seed)
        bytes_of = [machine.start("p", for_ever).env.entropy.random_bytes(8) for _ in range(2)]
        loop.close()
        return bytes_of

    assert drawn(1) == drawn(1)
    assert len({*drawn(1), *drawn(2)}) == 4


def test_a_loop_that_never_lets_time_pass_is_refused(loop: SimLoop) -> None:
    def again() -> None:
        loop.call_soon(again)

    async def scene() -> None:
        again()
        await asyncio.sleep(1)

    with pytest.raises(RuntimeError, match="time stands still"):
        loop.run_until_complete(scene())


def test_waiting_for_nothing_is_refused(loop: SimLoop) -> None:
    async def scene() -> None:
        waiting: Awaitable[Any] = asyncio.Event().wait()
        await waiting

    with pytest.raises(RuntimeError, match="waits in vain"):
        loop.run_until_complete(scene())


@pytest.mark.filterwarnings("error")
def test_the_end_of_a_simulation_is_silent_whatever_its_processes_still_want() -> None:
    loop = SimLoop()
    machine = SimMachine(loop)
    done: list[str] = []

    async def late() -> None:
        done.append("late")

    async def main(env: EnvParts) -> None:
        thread = env.threads.loop_thread("other")
        try:
            await asyncio.Event().wait()
        finally:
            thread.submit(late())
            await asyncio.sleep(1)
            done.append("after")

    async def scene() -> None:
        machine.start("killed", main)
        machine.start("alive", main)
        await asyncio.sleep(1)
        machine.processes[0].kill()

    loop.run_until_complete(scene())
    loop.close()
    machine.processes.clear()
    gc.collect()

    assert done == []
    assert machine.errors == []
