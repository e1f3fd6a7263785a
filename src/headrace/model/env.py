"""The seam between headrace and everything outside its process.

Log, runtime, server and client reach disk, clock, randomness, sockets, threads and
processes through an `Env` and through nothing else; `tools/tidy.py` forbids the direct
modules there.
The real one is `headrace.runtime.env`; a simulated one can put any fault behind each
of these methods, so the code in production is the code that is simulated.

Every method of `Disk` is one system call, or behaves as one, so that "the Nth call
fails" is a meaningful experiment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

import msgspec

T = TypeVar("T")


class FileStat(msgspec.Struct, frozen=True):
    """What a log needs to know of a path."""

    size_bytes: int
    mode: int
    """Permission bits only, e.g. `0o600`."""
    owner_uid: int
    is_dir: bool


class Disk(Protocol):
    """Files and directories. Paths are absolute `str`; failures are `OSError`.

    Durability: file content survives a crash once `fdatasync` of it has returned; a
    name (created, renamed or removed) survives once `fsync_dir` of its directory has
    returned. Nothing else promises anything.
    """

    def open(self, path: str, *, create: bool = False, write: bool = False) -> int:
        """A descriptor that children do not inherit and that follows no symlink.

        `create` makes the file (mode 0600) and refuses with `FileExistsError` when it
        exists; `write` opens for reading and writing.
        """

    def close(self, fd: int) -> None: ...

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        """Up to `length` bytes; shorter only at the end of the file."""

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        """Bytes written, possibly fewer than given: the caller loops."""

    def pwritev(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        """As `pwrite`, of several buffers (at most 1,024) in one call."""

    def fdatasync(self, fd: int) -> None:
        """Content (and the size that reading it back needs) is on the medium."""

    def preallocate(self, fd: int, length: int) -> None:
        """Reserve `length` bytes from 0, so that writing them cannot meet ENOSPC."""

    def truncate(self, fd: int, length: int) -> None: ...

    def drop_cache(self, fd: int) -> None:
        """Ask that the next read comes from the medium (advice, never an error)."""

    def stat(self, path: str) -> FileStat | None:
        """None when nothing has that name."""

    def rename(self, source: str, target: str) -> None: ...

    def unlink(self, path: str) -> None: ...

    def mkdir(self, path: str) -> None:
        """Make one directory, mode 0700; `FileExistsError` when it exists."""

    def listdir(self, path: str) -> list[str]:
        """Names in it, sorted."""

    def fsync_dir(self, path: str) -> None: ...

    def try_lock(self, fd: int) -> bool:
        """Take an exclusive `flock` that ends with the process; False when held."""

    def free_bytes(self, path: str) -> int:
        """Bytes that this user may still write on the file system of `path`."""

    def filesystem(self, path: str) -> str:
        """Its type in the kernel's word, such as `ext4` or `nfs4`; `` when unknown."""


class Clock(Protocol):
    """Three readings of time; only the runtime asks for them."""

    def wall_ms(self) -> int:
        """Unix time; may jump either way."""

    def mono_ns(self) -> int:
        """Never goes back; stands still while the machine is suspended."""

    def boot_ns(self) -> int:
        """Never goes back; runs on while the machine is suspended."""


class Entropy(Protocol):
    def random_bytes(self, count: int) -> bytes: ...

    def random_u64(self) -> int: ...


class Host(Protocol):
    """Who we are, for messages, lock files and permission checks."""

    def pid(self) -> int: ...

    def uid(self) -> int: ...

    def hostname(self) -> str: ...

    def boot_id(self) -> str:
        """Differs after every boot of the machine; `` when unknown."""

    def process_exists(self, pid: int) -> bool: ...

    def environ(self) -> Mapping[str, str]: ...

    def working_directory(self) -> str: ...

    def processor_count(self) -> int: ...

    def open_files_max(self) -> int:
        """The soft limit of open descriptors of this process."""


class IoThread(Protocol):
    """One thread that makes blocking calls for one event loop, in order, one at a time."""

    def submit(
        self, call: Callable[[], T], done: Callable[[T | None, BaseException | None], None]
    ) -> None:
        """Run `call` on the thread, then `done(result, error)` on the loop.

        Returns once the thread has taken the call (GIL hand-off, so a busy loop cannot
        starve it). At most one call may be outstanding.
        """

    def give_way(self) -> None:
        """Let the thread run for a moment if it has a call; run `done` if it ended."""

    def close(self) -> None:
        """The thread has ended when this returns; a call under way is waited for."""


class LoopThread(Protocol):
    """A thread that runs an event loop of its own, from its making until `stop`.

    All methods may be called from any thread, and none but `stop` waits. Its user ends
    what it has begun there before it stops it.
    """

    @property
    def is_current(self) -> bool:
        """The caller is on it: to wait here for something of this loop would never end."""

    def call(self, callback: Callable[[], object]) -> None:
        """`callback` runs on the loop soon, in the order of the calls; never once stopped."""

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """`coroutine` runs on the loop as a task; cancelling the future cancels it.

        What is still running at `stop`, or comes after it, is cancelled. Callbacks of the
        future run on the loop's thread.
        """

    def stop(self, timeout_s: float = 0.0) -> None:
        """The loop ends soon. Waits for the thread up to `timeout_s`; harmless when repeated."""


class IoThreads(Protocol):
    """What a node takes of `Threads`."""

    def io_thread(self, name: str, loop: asyncio.AbstractEventLoop) -> IoThread: ...


class Threads(IoThreads, Protocol):
    def loop_thread(self, name: str) -> LoopThread:
        """A daemon thread; its loop takes calls at once."""

    def start(self, name: str, target: Callable[[], None]) -> Callable[[float], bool]:
        """Start a daemon thread; the returned `join(timeout_s)` tells whether it ended."""


class Server(Protocol):
    def addresses(self) -> list[str]:
        """Where it listens, as `host:port` or a path."""

    async def close(self) -> None: ...


class Network(Protocol):
    """Stream sockets for asyncio protocols. Failures are `OSError`."""

    async def listen_tcp(
        self, host: str, port: int, factory: Callable[[], asyncio.BaseProtocol]
    ) -> Server: ...

    async def listen_unix(self, path: str, factory: Callable[[], asyncio.BaseProtocol]) -> Server:
        """Bind `path` (mode 0600), of any length; a stale socket there is replaced."""

    async def connect_tcp(
        self, host: str, port: int, factory: Callable[[], asyncio.BaseProtocol]
    ) -> None: ...

    async def connect_unix(
        self, path: str, factory: Callable[[], asyncio.BaseProtocol]
    ) -> None: ...


class ChildProcess(Protocol):
    """A process that this one started."""

    @property
    def pid(self) -> int: ...

    def write(self, data: bytes) -> None:
        """To its standard input, when it was started with pipes; kept until it reads."""

    async def read(self, count: int) -> bytes:
        """Exactly `count` bytes of its standard output; fewer once it has ended."""

    def terminate(self) -> None:
        """Ask it to end; harmless when it has."""

    def kill(self) -> None: ...

    async def wait(self) -> int:
        """Its exit code; negative is the number of the signal that ended it."""


class ParentPipe(Protocol):
    """The other ends of a child's pipes, in the child. All calls block."""

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes; fewer once the parent has ended."""

    def write(self, data: bytes) -> None:
        """Raises: `BrokenPipeError` once the parent has ended."""

    def on_parent_end(self, call: Callable[[], None]) -> None:
        """`call` runs once on a thread of its own, when nobody holds the other end any more.

        Not on Windows, which cannot tell.
        """


class Processes(Protocol):
    """Other processes, and what a fork leaves in this one."""

    async def spawn(self, argv: Sequence[str], *, piped: bool) -> ChildProcess:
        """Start a program: with pipes to its standard input and output, or with ours."""

    def parent_pipe(self) -> ParentPipe:
        """In a child started with pipes: take them; printing goes to standard error then."""

    def rss_bytes(self) -> int:
        """Memory that this process holds now; 0 when unknown."""

    def after_fork_in_child(self, call: Callable[[], None]) -> None:
        """`call` runs first thing in every child that is forked from here on."""

    def close_inherited(self, directory: str) -> None:
        """In a forked child: the parent's descriptors below `directory` are closed.

        Sockets whose name is `headrace.sock` too: a connection ends for its peer only when
        no process holds it any more, and so does a lock.
        """

    def on_exit(self, call: Callable[[], None]) -> None:
        """`call` runs when the interpreter ends in good order."""


class LogEnv(Protocol):
    """The parts of an `Env` that a log takes: neither threads nor sockets."""

    @property
    def disk(self) -> Disk: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def entropy(self) -> Entropy: ...

    @property
    def host(self) -> Host: ...


class Env(LogEnv, Protocol):
    """All of it. A component takes the parts it needs, or the whole."""

    @property
    def threads(self) -> Threads: ...

    @property
    def network(self) -> Network: ...

    @property
    def processes(self) -> Processes: ...


class EnvParts(msgspec.Struct, frozen=True):
    """An `Env` put together of its parts."""

    disk: Disk
    clock: Clock
    entropy: Entropy
    host: Host
    threads: Threads
    network: Network
    processes: Processes
