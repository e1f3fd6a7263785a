"""Stream sockets of this machine, by the running asyncio loop.

Must never wait without its caller being able to cancel, and never leave a Unix socket
that another user can open, not even for a moment: it gets its mode between `bind` and
`listen`, and before `listen` nobody can connect.

A Unix address holds 107 bytes on Linux and 103 on macOS; data directories are longer than
that in temporary and container paths. A longer path is reached through a short name for
its directory: `/proc/self/fd/N` on Linux, else a symlink in a private temporary directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator

from headrace.model.limits import LISTEN_BACKLOG

_UNIX_PATH_BYTES_MAX = 107 if sys.platform == "linux" else 103
_DESCRIPTORS_DIR = "/proc/self/fd"

Factory = Callable[[], asyncio.BaseProtocol]


class RealNetwork:
    async def listen_tcp(self, host: str, port: int, factory: Factory) -> TcpServer:
        loop = asyncio.get_running_loop()
        return TcpServer(await loop.create_server(factory, host, port, backlog=LISTEN_BACKLOG))

    async def listen_unix(self, path: str, factory: Factory) -> UnixServer:
        listener = _bind_unix(path)
        try:
            inode = os.stat(path).st_ino
            loop = asyncio.get_running_loop()
            server = await loop.create_unix_server(factory, sock=listener, backlog=LISTEN_BACKLOG)
        except BaseException:
            listener.close()
            raise
        return UnixServer(server, path, inode)

    async def connect_tcp(self, host: str, port: int, factory: Factory) -> None:
        await asyncio.get_running_loop().create_connection(factory, host, port)

    async def connect_unix(self, path: str, factory: Factory) -> None:
        _require_unix_sockets()
        with short_socket_path(path) as address:
            await asyncio.get_running_loop().create_unix_connection(factory, address)


class TcpServer:
    def __init__(self, server: asyncio.AbstractServer) -> None:
        self._server = server
        self._addresses = [
            _shown(listener.getsockname()) for listener in getattr(server, "sockets", ())
        ]

    def addresses(self) -> list[str]:
        return self._addresses

    async def close(self) -> None:
        """Nobody new gets in; connections that exist go on.

        `wait_closed` would wait for those from Python 3.12 on, and is not called.
        """
        self._server.close()
        await asyncio.sleep(0)


class UnixServer:
    def __init__(self, server: asyncio.AbstractServer, path: str, inode: int) -> None:
        self._server = server
        self._path = path
        self._inode = inode

    def addresses(self) -> list[str]:
        return [self._path]

    async def close(self) -> None:
        """As `TcpServer.close`; the name is gone unless a successor has taken it.

        A name that cannot be removed stays: whoever listens next removes it, and a disk
        that fails must not keep the rest from ending.
        """
        with contextlib.suppress(OSError):
            if os.stat(self._path).st_ino == self._inode:
                os.unlink(self._path)
        self._server.close()
        await asyncio.sleep(0)


@contextlib.contextmanager
def short_socket_path(path: str, *, descriptors_dir: str = _DESCRIPTORS_DIR) -> Iterator[str]:
    """A name of `path` that fits a socket address, valid inside the block."""
    if len(os.fsencode(path)) <= _UNIX_PATH_BYTES_MAX:
        yield path
        return
    directory, name = os.path.split(path)
    shorten = _by_descriptor if os.path.isdir(descriptors_dir) else _by_symlink
    with shorten(directory) as short_directory:
        short = os.path.join(short_directory, name)
        if len(os.fsencode(short)) > _UNIX_PATH_BYTES_MAX:
            raise OSError(errno.ENAMETOOLONG, "name of the socket is too long", path)
        yield short


@contextlib.contextmanager
def _by_descriptor(directory: str) -> Iterator[str]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"{_DESCRIPTORS_DIR}/{fd}"
    finally:
        os.close(fd)


@contextlib.contextmanager
def _by_symlink(directory: str) -> Iterator[str]:
    private = tempfile.mkdtemp(prefix="hr-")
    try:
        link = os.path.join(private, "d")
        os.symlink(os.path.abspath(directory), link)
        yield link
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _bind_unix(path: str) -> socket.socket:
    _require_unix_sockets()
    with short_socket_path(path) as address:
        _remove_stale(address)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(address)
            os.chmod(address, 0o600)
        except BaseException:
            listener.close()
            raise
    return listener


def _remove_stale(address: str) -> None:
    """No socket is at `address`; `EADDRINUSE` when somebody still listens there.

    Anything but a socket is left alone: `bind` then refuses it.
    """
    try:
        if not stat.S_ISSOCK(os.lstat(address).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(address)
        except ConnectionRefusedError:
            os.unlink(address)
            return
        except BlockingIOError:  # its backlog is full
            pass
    raise OSError(errno.EADDRINUSE, "another process listens on this socket")


def _require_unix_sockets() -> None:
    if not hasattr(socket, "AF_UNIX"):
        raise OSError(errno.EAFNOSUPPORT, "this system has no Unix sockets; use TCP")


def _shown(address: tuple[str, int]) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
