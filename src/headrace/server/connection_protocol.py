"""One connection of the server: bytes from asyncio to the machine, commands to the node.

No task and no stream objects, and one read buffer for all connections: 10,000 idle ones
must stay under 100 MiB. Replies are encoded into the connection's own chunks when the
node releases them, and written once a release.

A peer that does not read: encoding stops at `write_buffer_bytes_max`, what the node still
sends waits as the objects that it is, and nothing more is read from that peer until it
has drained. Reading never waits for writing on any other connection.

Must never raise into the node, and never call it from within one of its calls.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import cast

from headrace.model.errors import HeadraceError, Internal, Overloaded, Unsupported
from headrace.model.handshake import HandOver, Hello, Pong
from headrace.model.pushes import PingPushed, Push
from headrace.model.replies import Done, Reply
from headrace.protocol.connection import ServerConnection
from headrace.protocol.pushes import split_push
from headrace.protocol.states import Phase
from headrace.server.edge import Edge
from headrace.server.watch import Watch

LINGERING_MAX = 64
"""Refused connections that may stay for a moment, above `connections_max`, to read why."""

Outgoing = Reply | HeadraceError | Push


class ServerProtocol(asyncio.BufferedProtocol):
    """Also the node's `Peer`. Lives on the node's loop."""

    __slots__ = (
        "_edge",
        "_held",
        "_in_flight",
        "_is_local",
        "_machine",
        "_paused",
        "_transport",
        "_unfinished_bytes",
        "_watch",
        "heard_at_s",
        "pinged",
    )

    def __init__(self, edge: Edge, watch: Watch, *, is_local: bool = False) -> None:
        self._edge = edge
        self._is_local = is_local
        self._watch = watch
        self._machine = ServerConnection()
        self._transport: asyncio.Transport | None = None
        self._in_flight = 0
        self._unfinished_bytes = 0
        self._paused = False
        self._held: deque[tuple[int, Outgoing]] | None = None
        self.heard_at_s = 0.0
        self.pinged = False

    # --- the node's Peer

    def send_reply(self, request_id: int, reply: Reply) -> None:
        self._in_flight -= 1
        self._send(request_id, reply)

    def send_error(self, request_id: int, error: HeadraceError) -> None:
        """Nothing for what is not answered: on the wire, an error without id is an end."""
        if request_id:
            self._in_flight -= 1
            self._send(request_id, error)

    def send_push(self, push: Push) -> None:
        for part in split_push(push):
            self._send(0, part)

    def flush(self) -> None:
        while True:
            chunks = self._machine.take_output()
            if self._transport is not None and not self._transport.is_closing():
                if len(chunks) == 1:
                    self._transport.write(chunks[0])
                elif chunks:
                    self._transport.writelines(chunks)
            if self._held is None or self._paused:
                return
            self._encode_held()

    # --- what the server calls

    @property
    def is_paused(self) -> bool:
        """It does not read, and so is not read from either."""
        return self._paused

    @property
    def unsent_bytes(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def ping(self, now_ms: int) -> None:
        self.pinged = True
        self._send(0, PingPushed(now_ms))
        self.flush()

    def end(self, error: HeadraceError) -> None:
        """The peer is told why and the connection ends, at the latest after a moment."""
        self._held = None
        self._machine.refuse(error)
        self._leave()

    def abort(self) -> None:
        """The connection ends now; what was not sent is lost."""
        if self._transport is not None:
            self._transport.abort()

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        edge = self._edge
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=edge.limits.write_buffer_bytes_max)
        self.heard_at_s = edge.loop.time()
        is_full = edge.is_full
        edge.connections[self] = None
        if is_full:
            self._turn_away()
        else:
            self._watch.await_handshake(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._edge.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.heard_at_s = self._edge.loop.time()
        self.pinged = False
        machine, node = self._machine, self._edge.node
        for request_id, message in machine.receive(self._edge.read_buffer[:nbytes]):
            kind = type(message)
            if request_id == 0:
                if kind is not Pong:
                    node.submit(message, self, 0)
            elif kind is Hello:
                self._greet(request_id, message)
            elif kind is HandOver:
                self._hand_over(request_id, message)
            elif self._in_flight >= self._edge.limits.in_flight_max:
                self._send(request_id, self._too_many_in_flight())
            else:
                self._in_flight += 1
                node.submit(message, self, request_id)
        if machine.unfinished_bytes != self._unfinished_bytes:
            self._account_unfinished()
        if machine.output_bytes:
            self.flush()
        if machine.is_closed:
            self._leave()
        elif nbytes == len(self._edge.read_buffer):
            self._let_others_read()

    def eof_received(self) -> None:
        return None

    def pause_writing(self) -> None:
        self._paused = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        self._watch.await_drain(self)

    def resume_writing(self) -> None:
        self._paused = False
        self._watch.has_drained(self)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._held = None
        self._edge.unfinished_bytes -= self._unfinished_bytes
        self._unfinished_bytes = 0
        self._edge.forget(self)
        self._watch.forget(self)
        self._edge.node.peer_gone(self)

    # --- inside

    def _greet(self, request_id: int, hello: Hello) -> None:
        try:
            self._machine.welcome(request_id, self._edge.greet(hello, is_local=self._is_local))
        except HeadraceError as error:
            self._machine.refuse(error)
            self._edge.report("client_refused", code=error.code, client_name=hello.client_name)
        else:
            self._watch.has_shaken_hands(self)

    def _let_others_read(self) -> None:
        """A full buffer: more has come. Its turn ends first, so that the disk works meanwhile.

        The loop would go on reading here, many times over, before it does anything else.
        """
        if self._transport is not None and not self._paused and not self._transport.is_closing():
            self._transport.pause_reading()
            self._edge.loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if self._transport is not None and not self._paused and not self._transport.is_closing():
            self._transport.resume_reading()

    def _account_unfinished(self) -> None:
        """Whoever pushes the sum over its bound ends: waiting could wait for ever."""
        edge, kept_bytes = self._edge, self._machine.unfinished_bytes
        edge.unfinished_bytes += kept_bytes - self._unfinished_bytes
        grew = kept_bytes > self._unfinished_bytes
        self._unfinished_bytes = kept_bytes
        if grew and edge.unfinished_bytes > edge.limits.unfinished_bytes_max:
            self._machine.refuse(
                Overloaded(
                    f"Frames that have not ended hold {edge.unfinished_bytes} bytes.",
                    hint="Send smaller calls, or fewer at a time.",
                    retry_after_ms=1_000,
                )
            )

    def _hand_over(self, request_id: int, message: HandOver) -> None:
        if self._edge.hand_over is None:
            self._send(
                request_id,
                Unsupported(
                    "This server does not hand its directory over.",
                    hint="Stop it, or work with it as it is.",
                ),
            )
            return
        self._send(request_id, Done())
        self._edge.hand_over(message.reason)

    def _send(self, request_id: int, message: Outgoing) -> None:
        """Encoded now, or kept until the peer has drained; nothing once it is gone."""
        if self._transport is None or self._machine.phase is not Phase.OPEN:
            return
        if self._held is not None or self._is_backed_up():
            if self._held is None:
                self._held = deque()
            self._held.append((request_id, message))
        else:
            self._encode(request_id, message)

    def _is_backed_up(self) -> bool:
        return self._paused or (
            self._machine.output_bytes > self._edge.limits.write_buffer_bytes_max
        )

    def _encode(self, request_id: int, message: Outgoing) -> None:
        try:
            if isinstance(message, Reply):
                self._machine.send_reply(request_id, message)
            elif isinstance(message, Push):
                self._machine.send_push(message)
            else:
                self._machine.send_error(request_id, message)
        except HeadraceError as error:
            self._edge.report("message_not_sent", message=type(message).__name__, why=str(error))
            if request_id:
                self._machine.send_error(request_id, Internal(str(error)))

    def _encode_held(self) -> None:
        """As much of what was held as the socket may be given at once."""
        held, self._held = self._held, None
        while held and not self._is_backed_up():
            self._encode(*held.popleft())
        self._held = held or None

    def _too_many_in_flight(self) -> HeadraceError:
        return Overloaded(
            f"This connection has {self._in_flight} requests that are not answered yet.",
            hint="Wait for answers; WELCOME says how many may be open (in_flight_max).",
            retry_after_ms=100,
        )

    def _turn_away(self) -> None:
        edge = self._edge
        self._machine.refuse(
            Overloaded(
                f"The server has {edge.limits.connections_max} connections and takes no more.",
                hint="Close some, share one per process, or raise server.connections_max.",
                retry_after_ms=1_000,
            )
        )
        edge.report("connection_refused", connections_max=edge.limits.connections_max)
        if len(edge.connections) > edge.limits.connections_max + LINGERING_MAX:
            self.flush()
            self.abort()
        else:
            self._leave()

    def _leave(self) -> None:
        """What was said is sent; the peer gets a moment to read it.

        Closing at once would lose the reason: a socket that is closed with unread input
        is reset, and a reset overtakes what was written before it.
        """
        self.flush()
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._watch.await_leaving(self)
        if transport.can_write_eof():
            transport.write_eof()
