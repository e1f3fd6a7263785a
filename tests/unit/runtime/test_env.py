"""The real seam against the real machine: files, threads and sockets of this process."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace.model.env import Env, IoThread
from headrace.model.errors import InvariantViolated
from headrace.runtime.env import real_env
from headrace.runtime.real_disk import filesystem_of, write_zeros
from headrace.runtime.real_network import short_socket_path

WAIT_S = 10.0
"""Only a hung test waits this long."""


@pytest.fixture
def env() -> Env:
    return real_env()


# --- disk


def test_created_file_is_private_and_creating_it_again_is_refused(env: Env, tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    env.disk.close(env.disk.open(path, create=True, write=True))

    found = env.disk.stat(path)
    assert found is not None
    assert (found.mode, found.size_bytes, found.is_dir) == (0o600, 0, False)
    assert found.owner_uid == env.host.uid()
    with pytest.raises(FileExistsError):
        env.disk.open(path, create=True, write=True)


def test_open_refuses_a_symlink(env: Env, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"secret")
    (tmp_path / "link").symlink_to(tmp_path / "target")

    with pytest.raises(OSError) as refused:
        env.disk.open(str(tmp_path / "link"))
    assert refused.value.errno == errno.ELOOP


def test_descriptor_is_not_inherited_by_children(env: Env, tmp_path: Path) -> None:
    fd = env.disk.open(str(tmp_path / "file"), create=True, write=True)
    try:
        assert os.get_inheritable(fd) is False
    finally:
        env.disk.close(fd)


def test_file_opened_for_reading_cannot_be_written(env: Env, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    fd = env.disk.open(str(tmp_path / "file"))
    try:
        with pytest.raises(OSError) as refused:
            env.disk.pwrite(fd, b"x", 0)
        assert refused.value.errno == errno.EBADF
    finally:
        env.disk.close(fd)


@pytest.fixture
def fd(env: Env, tmp_path: Path) -> Iterator[int]:
    fd = env.disk.open(str(tmp_path / "open"), create=True, write=True)
    yield fd
    env.disk.close(fd)


def test_what_was_written_at_an_offset_is_read_there(env: Env, fd: int) -> None:
    assert env.disk.pwrite(fd, memoryview(b"head"), 0) == 4
    assert env.disk.pwritev(fd, [b"ra", b"", b"ce"], 4) == 4
    env.disk.fdatasync(fd)

    assert env.disk.pread(fd, 8, 0) == b"headrace"
    assert env.disk.pread(fd, 100, 4) == b"race"
    assert env.disk.pread(fd, 1, 8) == b""


def test_preallocated_room_reads_as_zeros_and_keeps_content(
    env: Env, fd: int, tmp_path: Path
) -> None:
    env.disk.pwrite(fd, b"abc", 0)
    env.disk.preallocate(fd, 4096)

    assert env.disk.pread(fd, 8192, 0) == b"abc" + bytes(4093)
    assert (tmp_path / "open").stat().st_blocks * 512 >= 4096


def test_zeros_stand_in_for_preallocation_where_it_is_missing(env: Env, fd: int) -> None:
    env.disk.pwrite(fd, b"abc", 0)
    write_zeros(fd, 3 * 1024 * 1024 + 1)

    assert env.disk.pread(fd, 5, 0) == b"abc\0\0"
    assert os.fstat(fd).st_size == 3 * 1024 * 1024 + 1


def test_preallocation_beyond_the_disk_is_refused_with_no_space(env: Env, fd: int) -> None:
    with pytest.raises(OSError) as refused:
        env.disk.preallocate(fd, 1 << 60)
    assert refused.value.errno in (errno.ENOSPC, errno.EFBIG)


def test_truncate_sets_the_size_both_ways(env: Env, fd: int) -> None:
    env.disk.pwrite(fd, b"abcdef", 0)
    env.disk.truncate(fd, 3)
    assert env.disk.pread(fd, 10, 0) == b"abc"
    env.disk.truncate(fd, 5)
    assert env.disk.pread(fd, 10, 0) == b"abc\0\0"


def test_drop_cache_keeps_content_and_forgives_a_closed_descriptor(env: Env, fd: int) -> None:
    env.disk.pwrite(fd, b"abc", 0)
    env.disk.fdatasync(fd)
    env.disk.drop_cache(fd)
    assert env.disk.pread(fd, 3, 0) == b"abc"
    env.disk.drop_cache(-1)


def test_names_are_made_listed_renamed_and_removed(env: Env, tmp_path: Path) -> None:
    directory = str(tmp_path / "wal")
    env.disk.mkdir(directory)
    for name in ("b", "a"):
        env.disk.close(env.disk.open(f"{directory}/{name}", create=True, write=True))
    env.disk.rename(f"{directory}/b", f"{directory}/c")
    env.disk.fsync_dir(directory)

    made = env.disk.stat(directory)
    assert made is not None
    assert (made.is_dir, made.mode) == (True, 0o700)
    assert env.disk.listdir(directory) == ["a", "c"]
    env.disk.unlink(f"{directory}/a")
    assert env.disk.listdir(directory) == ["c"]
    assert env.disk.stat(f"{directory}/a") is None
    with pytest.raises(FileExistsError):
        env.disk.mkdir(directory)


def test_lock_is_refused_while_another_descriptor_holds_it(env: Env, tmp_path: Path) -> None:
    path = str(tmp_path / "LOCK")
    holder = env.disk.open(path, create=True, write=True)
    other = env.disk.open(path, write=True)
    try:
        assert env.disk.try_lock(holder)
        assert not env.disk.try_lock(other)
        env.disk.close(holder)
        assert env.disk.try_lock(other)
    finally:
        env.disk.close(other)


def test_free_bytes_fit_the_disk(env: Env, tmp_path: Path) -> None:
    found = os.statvfs(tmp_path)
    assert 0 < env.disk.free_bytes(str(tmp_path)) <= found.f_blocks * found.f_frsize


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_filesystem_of_proc_is_proc_and_of_nowhere_is_that_of_root(env: Env) -> None:
    assert env.disk.filesystem("/proc/self") == "proc"
    assert env.disk.filesystem("/nowhere/at/all") == env.disk.filesystem("/")


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:30 / /srv/data rw - nfs4 server:/export rw
31 22 0:31 / /srv/data\\040two rw shared:7 master:2 - cifs //server/share rw
32 22 0:32 / /mnt rw - xfs /dev/a rw
33 22 0:33 / /mnt rw - fuse.sshfs x rw
nonsense
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "ext4"),
        ("/srv", "ext4"),
        ("/srv/data", "nfs4"),
        ("/srv/data/deep/er", "nfs4"),
        ("/srv/database", "ext4"),
        ("/srv/data two/x", "cifs"),
        ("/mnt/x", "fuse.sshfs"),  # the later mount hides the earlier one
    ],
)
def test_filesystem_is_that_of_the_nearest_mount(path: str, expected: str) -> None:
    assert filesystem_of(path, MOUNTS) == expected


def test_filesystem_is_unknown_without_mounts() -> None:
    assert filesystem_of("/srv", "") == ""


# --- clock, entropy, host


def test_clocks_read_plausible_time_and_never_go_back(env: Env) -> None:
    first = (env.clock.mono_ns(), env.clock.boot_ns())
    second = (env.clock.mono_ns(), env.clock.boot_ns())

    assert first <= second
    assert second[1] >= second[0] - 1_000_000_000  # boot time counts suspension as well
    assert env.clock.wall_ms() > 1_750_000_000_000


def test_random_values_have_their_size_and_differ(env: Env) -> None:
    assert len(env.entropy.random_bytes(16)) == 16
    drawn = {env.entropy.random_u64() for _ in range(100)}
    assert len(drawn) == 100
    assert all(0 <= value < 1 << 64 for value in drawn)


def test_forked_child_draws_other_random_values(env: Env) -> None:
    env.entropy.random_u64()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, env.entropy.random_bytes(16))
        os._exit(0)
    try:
        assert os.read(reading, 16) != env.entropy.random_bytes(16)
    finally:
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


def test_host_knows_this_process_and_that_an_ended_one_is_gone(env: Env) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    assert env.host.pid() == os.getpid()
    assert env.host.process_exists(os.getpid())
    assert not env.host.process_exists(ended.pid)
    assert not env.host.process_exists(0)
    assert env.host.hostname() == socket.gethostname()
    assert env.host.open_files_max() > 0
    assert env.host.environ()["PATH"] == os.environ["PATH"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_boot_id_is_a_uuid(env: Env) -> None:
    assert len(env.host.boot_id()) == 36


# --- threads


class Outcomes:
    """Collects what `done` was given, and tells the loop's tests when it came."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, BaseException | None]] = []
        self.came = asyncio.Event()

    def __call__(self, result: object, error: BaseException | None) -> None:
        self.seen.append((result, error))
        self.came.set()


@pytest.fixture
async def io(env: Env) -> Iterator[IoThread]:  # type: ignore[misc]
    thread = env.threads.io_thread("test-io", asyncio.get_running_loop())
    yield thread
    thread.close()


async def wait_for(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), WAIT_S)


async def test_call_runs_on_its_thread_and_done_on_the_loop(io: IoThread) -> None:
    outcomes = Outcomes()
    delivered_on: list[str] = []

    def done(result: str | None, error: BaseException | None) -> None:
        delivered_on.append(threading.current_thread().name)
        outcomes(result, error)

    io.submit(lambda: threading.current_thread().name, done)
    await wait_for(outcomes.came)

    assert outcomes.seen == [("test-io", None)]
    assert delivered_on == [threading.current_thread().name]


async def test_error_of_a_call_is_handed_to_done(io: IoThread) -> None:
    outcomes = Outcomes()
    failure = OSError(errno.EIO, "disk")

    def call() -> None:
        raise failure

    io.submit(call, outcomes)
    await wait_for(outcomes.came)
    assert outcomes.seen == [(None, failure)]


async def test_submit_returns_once_the_thread_has_the_call(io: IoThread) -> None:
    started, go_on = threading.Event(), threading.Event()

    def call() -> int:
        started.set()
        assert go_on.wait(WAIT_S)
        return 7

    outcomes = Outcomes()
    io.submit(call, outcomes)
    assert started.wait(WAIT_S)
    io.give_way()
    assert outcomes.seen == []
    with pytest.raises(InvariantViolated):
        io.submit(call, outcomes)
    go_on.set()
    await wait_for(outcomes.came)
    assert outcomes.seen == [(7, None)]


async def test_give_way_delivers_without_the_loop_turning(io: IoThread) -> None:
    outcomes = Outcomes()
    io.submit(lambda: 1, outcomes)
    while not outcomes.seen:
        io.give_way()
    assert outcomes.seen == [(1, None)]


async def test_late_callback_of_one_call_does_not_end_the_next(io: IoThread) -> None:
    """`give_way` wins the first race; its scheduled callback then meets call two."""
    first, second = Outcomes(), Outcomes()
    go_on = threading.Event()
    io.submit(lambda: 1, first)
    while not first.seen:
        io.give_way()
    io.submit(lambda: go_on.wait(WAIT_S), second)
    for _ in range(10):
        await asyncio.sleep(0)
    assert second.seen == []
    go_on.set()
    await wait_for(second.came)

    assert first.seen == [(1, None)]
    assert second.seen == [(True, None)]


async def test_each_of_many_calls_is_done_once_in_order(io: IoThread) -> None:
    seen: list[int] = []
    finished = asyncio.Event()

    def submit(number: int) -> None:
        def done(result: int | None, error: BaseException | None) -> None:
            assert error is None
            assert result == number
            seen.append(number)
            if number == 2_000:
                finished.set()
            else:
                submit(number + 1)

        io.submit(lambda: number, done)

    submit(1)
    while not finished.is_set():
        io.give_way()
        await asyncio.sleep(0)
    assert seen == list(range(1, 2_001))


async def test_close_waits_for_the_call_and_delivers_it(env: Env) -> None:
    thread = env.threads.io_thread("closing", asyncio.get_running_loop())
    outcomes = Outcomes()
    go_on = threading.Event()
    thread.submit(lambda: go_on.wait(WAIT_S), outcomes)
    threading.Timer(0.01, go_on.set).start()
    thread.close()
    thread.close()

    assert outcomes.seen == [(True, None)]
    assert "closing" not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(InvariantViolated):
        thread.submit(lambda: None, outcomes)
    await asyncio.sleep(0)
    assert len(outcomes.seen) == 1


def test_close_after_the_loop_is_closed_still_ends_the_thread(env: Env) -> None:
    loop = asyncio.new_event_loop()
    thread = env.threads.io_thread("orphan", loop)
    seen: list[object] = []
    loop.close()
    thread.submit(lambda: 5, lambda result, error: seen.append((result, error)))
    thread.close()
    assert seen == [(5, None)]


def test_started_thread_can_be_joined_with_a_deadline(env: Env) -> None:
    go_on = threading.Event()
    join = env.threads.start("background", lambda: (go_on.wait(WAIT_S), None)[1])
    assert not join(0.001)
    go_on.set()
    assert join(WAIT_S)


# --- network


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[attr-defined]


class Caller(asyncio.Protocol):
    def __init__(self) -> None:
        self.received = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(b"hello")  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.received.set_result(data)


Run = Callable[[Callable[[], "asyncio.Future[None]"]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine function on a fresh loop of each kind."""
    if request.param == "asyncio":
        return lambda main: asyncio.run(asyncio.wait_for(main(), WAIT_S))
    uvloop = pytest.importorskip("uvloop")
    return lambda main: uvloop.run(asyncio.wait_for(main(), WAIT_S))


def test_tcp_server_on_a_free_port_tells_its_address_and_answers(env: Env, run: Run) -> None:
    async def main() -> None:
        server = await env.network.listen_tcp("127.0.0.1", 0, Echo)
        host, _, port = server.addresses()[0].rpartition(":")
        caller = Caller()
        await env.network.connect_tcp(host, int(port), lambda: caller)
        assert await caller.received == b"hello"
        with pytest.raises(OSError) as refused:
            await env.network.listen_tcp("127.0.0.1", int(port), Echo)
        assert refused.value.errno == errno.EADDRINUSE
        await server.close()
        with pytest.raises(OSError):
            await env.network.connect_tcp(host, int(port), Caller)
        caller.transport.close()

    run(main)


def test_tcp_server_closes_while_a_connection_is_open(env: Env, run: Run) -> None:
    async def main() -> None:
        server = await env.network.listen_tcp("127.0.0.1", 0, Echo)
        host, _, port = server.addresses()[0].rpartition(":")
        caller = Caller()
        await env.network.connect_tcp(host, int(port), lambda: caller)
        await caller.received
        await server.close()
        again = await env.network.listen_tcp("127.0.0.1", int(port), Echo)
        await again.close()
        caller.transport.close()

    run(main)


@pytest.fixture(params=[20, 300], ids=["short", "long"])
def socket_path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    directory = tmp_path
    while request.param > 107 and len(str(directory)) < request.param:
        directory = directory / ("d" * 50)
    directory.mkdir(parents=True, exist_ok=True)
    return str(directory / "socket")


def test_unix_socket_of_any_path_length_is_private_and_answers(
    env: Env, run: Run, socket_path: str
) -> None:
    descriptors_before = len(os.listdir("/proc/self/fd"))

    async def main() -> None:
        server = await env.network.listen_unix(socket_path, Echo)
        found = os.lstat(socket_path)
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o600
        assert server.addresses() == [socket_path]
        caller = Caller()
        await env.network.connect_unix(socket_path, lambda: caller)
        assert await caller.received == b"hello"
        caller.transport.close()
        await server.close()
        assert not os.path.exists(socket_path)

    run(main)
    assert len(os.listdir("/proc/self/fd")) <= descriptors_before


def test_stale_unix_socket_is_replaced(env: Env, run: Run, socket_path: str) -> None:
    with short_socket_path(socket_path) as address:
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(address)
        dead.close()

    async def main() -> None:
        server = await env.network.listen_unix(socket_path, Echo)
        caller = Caller()
        await env.network.connect_unix(socket_path, lambda: caller)
        assert await caller.received == b"hello"
        caller.transport.close()
        await server.close()

    run(main)


def test_unix_socket_that_somebody_serves_is_not_taken(
    env: Env, run: Run, socket_path: str
) -> None:
    async def main() -> None:
        server = await env.network.listen_unix(socket_path, Echo)
        with pytest.raises(OSError) as refused:
            await env.network.listen_unix(socket_path, Echo)
        assert refused.value.errno == errno.EADDRINUSE
        caller = Caller()
        await env.network.connect_unix(socket_path, lambda: caller)
        assert await caller.received == b"hello"
        caller.transport.close()
        await server.close()

    run(main)


def test_file_in_the_place_of_a_unix_socket_is_kept(env: Env, run: Run, tmp_path: Path) -> None:
    (tmp_path / "socket").write_bytes(b"mine")

    async def main() -> None:
        with pytest.raises(OSError):
            await env.network.listen_unix(str(tmp_path / "socket"), Echo)

    run(main)
    assert (tmp_path / "socket").read_bytes() == b"mine"


def test_closing_server_keeps_the_socket_of_its_successor(
    env: Env, run: Run, tmp_path: Path
) -> None:
    path = str(tmp_path / "socket")

    async def main() -> None:
        server = await env.network.listen_unix(path, Echo)
        os.rename(path, path + ".old")
        successor = await env.network.listen_unix(path, Echo)
        await server.close()
        caller = Caller()
        await env.network.connect_unix(path, lambda: caller)
        assert await caller.received == b"hello"
        caller.transport.close()
        await successor.close()

    run(main)


def test_connecting_where_nobody_listens_is_an_os_error(
    env: Env, run: Run, socket_path: str
) -> None:
    async def main() -> None:
        with pytest.raises(OSError):
            await env.network.connect_unix(socket_path, Caller)

    run(main)


def test_symlink_stands_in_where_descriptors_have_no_names(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 100)
    directory.mkdir()
    path = str(directory / "socket")
    with short_socket_path(path, descriptors_dir="/nowhere") as address:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address)
        link = os.path.dirname(address)
        assert os.path.islink(link)
    with contextlib.closing(listener):
        assert stat.S_ISSOCK(os.lstat(path).st_mode)
    assert not os.path.exists(os.path.dirname(link))


def test_socket_name_longer_than_an_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError) as refused, short_socket_path(str(tmp_path / ("s" * 200))):
        pass
    assert refused.value.errno == errno.ENAMETOOLONG
