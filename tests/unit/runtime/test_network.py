"""Real TCP and Unix sockets, on both event loops, with paths of any length."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.model.env import Env
from headrace.runtime.env import real_env
from headrace.runtime.real_network import short_socket_path

WAIT_S = 10.0
"""Only a hung test waits this long."""


@pytest.fixture
def env() -> Env:
    return real_env()


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


def test_server_whose_socket_cannot_be_removed_ends_all_the_same(
    env: Env, run: Run, tmp_path: Path
) -> None:
    directory = tmp_path / "data"
    directory.mkdir()

    async def main() -> None:
        server = await env.network.listen_unix(str(directory / "socket"), Echo)
        directory.rename(tmp_path / "away")
        directory.write_bytes(b"no directory")
        await server.close()
        with short_socket_path(str(tmp_path / "away/socket")) as address:
            late = socket.socket(socket.AF_UNIX)
            with late, pytest.raises(ConnectionRefusedError):
                late.connect(address)

    run(main)


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
