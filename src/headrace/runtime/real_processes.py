"""Processes of this machine: children with pipes, and what a fork leaves behind.

Must never leave a child unreaped, and never close a descriptor that is not the owner's of
a data directory: a forked child shares all of its parent's, most of them with good reason.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import select
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

SOCKET_NAME = "headrace.sock"
_DESCRIPTORS_DIRS = ("/proc/self/fd", "/dev/fd")
_STATM_PATH = "/proc/self/statm"
_PAGE_BYTES = 0 if sys.platform == "win32" else os.sysconf("SC_PAGE_SIZE")


class RealProcesses:
    async def spawn(self, argv: Sequence[str], *, piped: bool) -> RealChild:
        pipe = asyncio.subprocess.PIPE if piped else None
        return RealChild(await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe))

    def parent_pipe(self) -> RealParentPipe:
        return RealParentPipe()

    def rss_bytes(self) -> int:
        try:
            with open(_STATM_PATH, encoding="ascii") as file:
                return int(file.read().split()[1]) * _PAGE_BYTES
        except OSError:
            return _peak_rss_bytes()

    def after_fork_in_child(self, call: Callable[[], None]) -> None:
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=call)

    def close_inherited(self, directory: str) -> None:
        below = os.path.realpath(directory) + os.sep
        for fd in _open_descriptors():
            if _path_of(fd).startswith(below) or _is_ours(fd):
                with contextlib.suppress(OSError):
                    os.close(fd)

    def on_exit(self, call: Callable[[], None]) -> None:
        atexit.register(call)


class RealChild:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def write(self, data: bytes) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(data)

    async def read(self, count: int) -> bytes:
        if self._process.stdout is None:
            return b""
        try:
            return await self._process.stdout.readexactly(count)
        except asyncio.IncompleteReadError as error:
            return error.partial

    def terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def wait(self) -> int:
        return await self._process.wait()


class RealParentPipe:
    """Takes standard input and output away from the program, which may print to them."""

    def __init__(self) -> None:
        self._input = os.dup(0)
        self._output = os.dup(1)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        sys.stdout.flush()
        os.dup2(2, 1)

    def read(self, count: int) -> bytes:
        parts: list[bytes] = []
        while count and (part := os.read(self._input, min(count, 1 << 20))):
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._output, rest) :]

    def on_parent_end(self, call: Callable[[], None]) -> None:
        if sys.platform == "win32":
            return

        def watch() -> None:
            poll = select.poll()
            poll.register(self._input, 0)  # that the other end is closed is told unasked
            poll.poll()
            call()

        threading.Thread(target=watch, name="headrace-parent", daemon=True).start()


def _peak_rss_bytes() -> int:
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _open_descriptors() -> Iterator[int]:
    for directory in _DESCRIPTORS_DIRS:
        if os.path.isdir(directory):
            yield from (int(name) for name in os.listdir(directory))
            return


def _path_of(fd: int) -> str:
    """Of a regular file or directory; `` of anything else."""
    try:
        if sys.platform == "darwin":
            import fcntl

            return fcntl.fcntl(fd, 50, bytes(1024)).rstrip(b"\0").decode()  # F_GETPATH
        return os.readlink(f"{_DESCRIPTORS_DIRS[0]}/{fd}")
    except OSError:
        return ""


def _is_ours(fd: int) -> bool:
    """A Unix socket, at either end, of a data directory."""
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return False
        borrowed = socket.socket(fileno=os.dup(fd))
    except OSError:
        return False
    with borrowed:
        return borrowed.family == socket.AF_UNIX and any(map(_ends_so, _names(borrowed)))


def _names(borrowed: socket.socket) -> Iterator[str]:
    for name_of in (borrowed.getsockname, borrowed.getpeername):
        with contextlib.suppress(OSError):
            yield str(name_of())


def _ends_so(name: str) -> bool:
    return os.path.basename(name) == SOCKET_NAME
