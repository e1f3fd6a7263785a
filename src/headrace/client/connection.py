"""One connection to a server, on asyncio; `reconnect.Link` keeps one alive for ever.

Calls of one pass of the loop leave in one write. Reading never waits for writing: when
the socket is full, `ready` is False and the owner keeps its calls, replies still come in.

Must never repeat a call, and never reconnect: that has one owner, the `Link`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import msgspec

from headrace.codec.messages import ANSWERS
from headrace.model.commands import Command
from headrace.model.env import Network
from headrace.model.errors import BadRequest, CannotConnect, HeadraceError, OutcomeUnknown
from headrace.model.handshake import Hello, Welcome
from headrace.model.limits import (
    CLIENT_WRITE_BUFFER_BYTES,
    CONNECT_MS,
    IN_FLIGHT_PER_CONNECTION_MAX,
    PORT_DEFAULT,
    READ_BUFFER_BYTES,
)
from headrace.model.pushes import PingPushed, Push
from headrace.model.replies import Reply
from headrace.model.settings import can_be_host
from headrace.protocol.connection import ClientConnection
from headrace.protocol.states import Phase

_REQUEST_ID_MAX = 0xFFFFFFFF
_WINDOW_NAME = "in_flight_max"


class Address(msgspec.Struct, frozen=True):
    """Where a server listens: a path, or a host and a port."""

    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.path:
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"headrace://{host}:{self.port}"


def parse_url(url: str) -> Address:
    """Of `headrace://host[:port]` or `unix:///path`. Raises: `BadRequest`."""
    try:
        address = _address_of(url)
    except ValueError:
        address = None
    if address is None:
        raise BadRequest(
            f"{url!r} is not the address of a server.",
            hint="Write headrace://127.0.0.1:7431 or unix:///path/to/headrace.sock.",
        )
    return address


def _address_of(url: str) -> Address | None:
    """Raises: `ValueError` for a port or a host that cannot be one."""
    parts = urlsplit(url)
    if parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc:
        path = unquote(parts.path)
        return None if "\0" in path else Address(path=path)
    host, port = parts.hostname or "", parts.port or PORT_DEFAULT
    if parts.scheme == "headrace" and can_be_host(host) and not parts.path.strip("/"):
        return Address(host=host, port=port)
    return None


class Call:
    """One request whose answer somebody waits for."""

    __slots__ = ("command", "deadline_s", "future", "lost", "sent")

    def __init__(
        self, command: Command | msgspec.Struct, future: asyncio.Future[Any], deadline_s: float
    ) -> None:
        self.command = command
        self.future = future
        self.deadline_s = deadline_s
        """By the loop's clock."""
        self.sent = False
        """It may have reached a server, and nobody said that it was refused."""
        self.lost = False
        """It was sent over a connection that ended before the answer came."""

    def succeed(self, reply: Reply) -> None:
        if not self.future.done():
            self.future.set_result(reply)

    def fail(self, error: HeadraceError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Listener:
    """What a connection tells its owner; all calls come on the loop, none may block."""

    def on_reply(self, call: Call, reply: Reply) -> None:
        call.succeed(reply)

    def on_refusal(self, call: Call, error: HeadraceError) -> None:
        call.fail(error)

    def on_push(self, push: Push) -> None:
        """Never PING, which is answered here."""

    def on_writable(self) -> None:
        """`ready` may be True again."""

    def on_closed(self, error: HeadraceError, unanswered: list[Call]) -> None:
        """The connection is gone for good; each call left was sent, and nobody knows."""
        for call in unanswered:
            call.fail(OutcomeUnknown(str(error)))


class Connection(asyncio.BufferedProtocol):
    """Use `connect` to get one."""

    def __init__(self, hello: Hello, listener: Listener) -> None:
        self._loop = asyncio.get_running_loop()
        self._machine = ClientConnection()
        self._machine.send_hello(hello)
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._buffer = _read_buffer()
        self._calls: dict[int, Call] = {}
        self._last_id = 1
        self._window = IN_FLIGHT_PER_CONNECTION_MAX
        self._paused = False
        self._flush_is_due = False
        self._closed = False
        self._greeted: asyncio.Future[Welcome] = self._loop.create_future()
        self.heard_at_s = self._loop.time()
        """When the server last sent anything, by the loop's clock."""

    # --- what the owner calls

    @property
    def open(self) -> bool:
        return self._machine.phase is Phase.OPEN and not self._closed

    @property
    def ready(self) -> bool:
        """A call would leave now: open, the socket takes data, the window has room."""
        return self.open and not self._paused and len(self._calls) < self._window

    @property
    def calls(self) -> list[Call]:
        """Sent and not answered, oldest first."""
        return list(self._calls.values())

    async def welcomed(self) -> Welcome:
        """What the server said. Raises: the reason why it did not take us."""
        return await self._greeted

    def request(
        self, command: Command | msgspec.Struct, timeout_ms: int = 0
    ) -> asyncio.Future[Any]:
        """The reply, or a `HeadraceError`; 0: wait as long as the connection lives."""
        future: asyncio.Future[Any] = self._loop.create_future()
        call = Call(command, future, 0.0)
        if not self.open:
            call.fail(CannotConnect("The connection is closed."))
            return future
        if timeout_ms:
            timer = self._loop.call_later(timeout_ms / 1000, call.fail, _no_answer(timeout_ms))
            future.add_done_callback(lambda _: timer.cancel())
        self.submit(call)
        return future

    def submit(self, call: Call) -> None:
        """The call leaves with the others of this pass of the loop. Needs `open`."""
        request_id = self._next_id()
        try:
            self._machine.send_request(request_id, call.command)
        except HeadraceError as error:
            call.fail(error)
            return
        call.sent = True
        self._calls[request_id] = call
        self._flush_soon()

    def send(self, command: Command | msgspec.Struct) -> None:
        """An unanswered message leaves with this pass of the loop. Needs `open`."""
        self._machine.send_request(0, command)
        self._flush_soon()

    def close(self, error: HeadraceError) -> None:
        """What was sent is still written; `on_closed(error)` is called now."""
        self._flush()
        if self._transport is not None:
            self._transport.close()
        self._end(error)

    def abort(self, error: HeadraceError) -> None:
        """Nothing more is read or written; `on_closed(error)` is called now."""
        if self._transport is not None:
            self._transport.abort()
        self._end(error)

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=CLIENT_WRITE_BUFFER_BYTES)
        self._flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.heard_at_s = self._loop.time()
        for request_id, message in self._machine.receive(self._buffer[:nbytes]):
            if self._closed:
                return
            if request_id:
                self._answered(request_id, message)
            elif type(message) is PingPushed:
                self._machine.send_pong(message.now_ms)
                self._flush_soon()
            else:
                self._listener.on_push(message)
        if self._machine.is_closed:
            self.abort(self._machine.fault or CannotConnect("The server ended the connection."))

    def eof_received(self) -> None:
        return None

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._listener.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        reason = f": {exc}" if exc else ""
        self._end(CannotConnect(f"The connection was lost{reason}."))

    # --- inside

    def _answered(self, request_id: int, message: Any) -> None:
        if type(message) is Welcome:
            self._welcomed(message)
            return
        full = len(self._calls) >= self._window
        call = self._calls.pop(request_id, None)
        if call is None:
            return
        if isinstance(message, HeadraceError):
            self._listener.on_refusal(call, message)
        elif type(message) is ANSWERS.get(type(call.command)):
            self._listener.on_reply(call, message)
        else:
            self._calls[request_id] = call
            asked, came = type(call.command).__name__, type(message).__name__
            self.abort(CannotConnect(f"The server answered {asked} with {came}."))
            return
        if full:
            self._listener.on_writable()

    def _welcomed(self, welcome: Welcome) -> None:
        window = welcome.limits.get(_WINDOW_NAME, self._window)
        if window < 1:
            # No call could ever leave; who waits for one should hear it.
            self.abort(
                CannotConnect(f"The server takes no requests: its {_WINDOW_NAME} is {window}.")
            )
            return
        self._window = window
        if not self._greeted.done():
            self._greeted.set_result(welcome)

    def _next_id(self) -> int:
        request_id = self._last_id
        while True:
            request_id = request_id + 1 if request_id < _REQUEST_ID_MAX else 1
            if request_id not in self._calls:
                self._last_id = request_id
                return request_id

    def _flush_soon(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        if self._transport is None or self._closed:
            return
        chunks = self._machine.take_output()
        if len(chunks) == 1:
            self._transport.write(chunks[0])
        elif chunks:
            self._transport.writelines(chunks)

    def _end(self, error: HeadraceError) -> None:
        if self._closed:
            return
        self._closed = True
        if not self._greeted.done():
            self._greeted.set_exception(error)
            self._greeted.exception()
        unanswered, self._calls = list(self._calls.values()), {}
        self._listener.on_closed(error, unanswered)


_of_this_thread = threading.local()


def _read_buffer() -> memoryview:
    """One for all connections of a loop, as in the server: a read is used up at once."""
    found: memoryview | None = getattr(_of_this_thread, "read_buffer", None)
    if found is None:
        found = _of_this_thread.read_buffer = memoryview(bytearray(READ_BUFFER_BYTES))
    return found


async def connect(
    network: Network,
    address: Address,
    hello: Hello,
    listener: Listener,
    timeout_ms: int = CONNECT_MS,
) -> tuple[Connection, Welcome]:
    """A connection that the server has welcomed.

    Raises: `CannotConnect`; or what the server refused HELLO with.
    Cancellation: the connection is aborted.
    """
    made: list[Connection] = []

    def factory() -> Connection:
        made.append(Connection(hello, listener))
        return made[-1]

    try:
        async with asyncio.timeout(timeout_ms / 1000):
            await _dial(network, address, factory)
            return made[-1], await made[-1].welcomed()
    except BaseException as error:
        for connection in made:
            connection.abort(CannotConnect("The attempt to connect was given up."))
        if isinstance(error, OSError):
            raise _cannot_connect(address, error) from error
        raise


async def _dial(network: Network, address: Address, factory: Callable[[], Connection]) -> None:
    if address.path:
        await network.connect_unix(address.path, factory)
    else:
        await network.connect_tcp(address.host, address.port, factory)


def _cannot_connect(address: Address, error: OSError) -> CannotConnect:
    if isinstance(error, TimeoutError):
        return CannotConnect(
            f"The server at {address} does not answer.",
            hint="Is it stopped, or is the network in between slow?",
        )
    return CannotConnect(
        f"No server answers at {address} ({error.strerror or error}).",
        hint="Start one with: headrace serve ./data",
    )


def _no_answer(timeout_ms: int) -> OutcomeUnknown:
    return OutcomeUnknown(f"The server did not answer within {timeout_ms} ms.")
