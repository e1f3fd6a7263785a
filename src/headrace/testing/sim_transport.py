"""One end of a simulated connection, and one direction between two ends.

`SimTransport` does what asyncio's socket transport does, in the same order: it pauses its
protocol when the peer does not read, tells it of the end once, and writes what was accepted
before it closes. `Direction` is the kernel's buffers and the way between them.

Must never call a protocol from within one of the protocol's own calls, as asyncio does not.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from headrace.testing.sim_loop import SimThreadLoop

if TYPE_CHECKING:
    from headrace.testing.sim_network import Connection, ProcessNetwork, SimNetwork

WINDOW_BYTES = 256 * 1024
"""What a direction holds that its target has not read; a sender keeps the rest."""
READ_BYTES_MAX = 256 * 1024
"""Given to a protocol without a buffer of its own at once."""
_HIGH_BYTES = 64 * 1024
_FIN = b"\0FIN"
_RESET = b"\0RESET"
"""Marks in a direction, told from data by identity."""


class Direction:
    """Bytes from one end to the other, in order; `reset_at` of them at most, when that is set."""

    def __init__(
        self,
        network: SimNetwork,
        connection: Connection,
        source: SimTransport,
        target: SimTransport,
    ) -> None:
        self.source = source
        self.target = target
        self.carried_bytes = 0
        """That have arrived."""
        self.reset_at: int | None = None
        """The connection is reset once so many bytes have arrived here."""
        self.window_used = 0
        self._network = network
        self._connection = connection
        self._under_way: deque[tuple[float, bytes]] = deque()
        self._last_arrival_s = 0.0
        self._armed_on: SimThreadLoop | None = None
        self._silent = False
        self._for_ever = False
        source.outgoing = self
        target.incoming = self

    # --- what the source does

    @property
    def room(self) -> int:
        return WINDOW_BYTES - self.window_used

    def send(self, data: bytes) -> None:
        """At most `room` bytes."""
        self.window_used += len(data)
        weather, draw = self._network.weather, self._network.draw
        if weather.split_probability and len(data) > 1:
            while len(data) > 1 and draw.random() < weather.split_probability:
                cut = draw.randrange(1, len(data))
                self._put(data[:cut])
                data = data[cut:]
        if not (weather.spares_unix and self._connection.is_unix):
            if weather.silence_probability and draw.random() < weather.silence_probability:
                self.silence()
            if weather.reset_probability and draw.random() < weather.reset_probability:
                arrived = self.carried_bytes + sum(len(piece) for _, piece in self._under_way)
                self.reset_at = arrived + draw.randrange(len(data) + 1)
        self._put(data)

    def finish(self) -> None:
        """No more comes: the target reads the end after what was sent."""
        self._put(_FIN)

    def reset(self) -> None:
        """The source is closed, and was not read to its end. Lost when the way is silent."""
        if not self._is_silent:
            self._put(_RESET)

    def read(self, count: int) -> None:
        """The target has taken so many bytes."""
        self.window_used -= count
        self.source.note_room()

    # --- faults

    def silence(self, *, for_ever: bool = False) -> None:
        """Nothing arrives any more, and nobody is told."""
        self._silent = True
        self._for_ever |= for_ever

    def heal(self) -> None:
        """What has waited arrives, a moment from now; nothing if it is silent for ever."""
        self._silent = self._for_ever
        self.go_on()

    def go_on(self) -> None:
        """What has waited arrives, unless something still keeps it."""
        if self._under_way and self._armed_on is None and not self._is_silent:
            at_s = self._network.loop.time() + self._network.latency_s()
            waiting = [(max(at_s, due_s), piece) for due_s, piece in self._under_way]
            self._under_way.clear()
            self._under_way.extend(waiting)
            self._last_arrival_s = max(self._last_arrival_s, at_s)
            self._arm()

    def drop(self) -> None:
        """What is under way never arrives."""
        self._under_way.clear()

    def target_has_died(self) -> None:
        """Its thread will not look for what arrives: the kernel does."""
        if self._armed_on is self.target.loop and self.target.loop.has_ended:
            self._armed_on = None
            if self._under_way:
                self._arm()

    # --- on the way

    @property
    def _is_silent(self) -> bool:
        return self._silent or self._network.is_cut(self.source, self.target)

    def _put(self, piece: bytes) -> None:
        network = self._network
        at_s = max(self._last_arrival_s, network.loop.time() + network.latency_s())
        if network.weather.bytes_per_s:
            at_s += len(piece) / network.weather.bytes_per_s
        self._last_arrival_s = at_s
        self._under_way.append((at_s, piece))
        if self._armed_on is None and not self._is_silent:
            self._arm()

    def _arm(self) -> None:
        target = self.target
        loop = self._network.loop if target.loop.has_ended else target.loop
        self._armed_on = loop
        loop.call_io_at(self._under_way[0][0], self._arrive)

    def _arrive(self) -> None:
        self._armed_on = None
        now_s = self._network.loop.time()
        under_way = self._under_way
        while under_way and under_way[0][0] <= now_s and not self._is_silent:
            self._deliver(under_way.popleft()[1])
        if under_way and self._armed_on is None and not self._is_silent:
            self._arm()

    def _deliver(self, piece: bytes) -> None:
        target = self.target
        if piece is _FIN:
            target.receive_end()
        elif piece is _RESET:
            target.receive_reset()
        elif not target.is_open:
            self._network.reset_count += 1
            target.outgoing.reset()
        elif self.reset_at is not None and self.carried_bytes + len(piece) >= self.reset_at:
            self._receive(piece[: max(0, self.reset_at - self.carried_bytes)])
            self._network.reset_count += 1
            self._connection.reset()
        else:
            self._receive(piece)

    def _receive(self, data: bytes) -> None:
        self.carried_bytes += len(data)
        traffic = self._network.traffic
        if traffic is not None:
            to = "server" if self is self._connection.to_server else "client"
            traffic.append((self._network.loop.time(), self._connection.number, to, data))
        self.target.receive(data)

    def source_has_closed(self) -> None:
        if not self._connection.is_open:
            self._network.forget(self._connection)


class SimTransport(asyncio.Transport):
    """A socket and what asyncio keeps of it. Its callbacks run on its thread's loop."""

    outgoing: Direction
    incoming: Direction

    def __init__(
        self, network: ProcessNetwork, loop: SimThreadLoop, *, sockname: object, peername: object
    ) -> None:
        super().__init__({"sockname": sockname, "peername": peername})
        self.network = network
        self.loop = loop
        self.is_open = True
        """The kernel has the socket."""
        self._protocol: asyncio.BaseProtocol | None = None
        self._unread = bytearray()
        self._unsent = bytearray()
        self._high_bytes = _HIGH_BYTES
        self._low_bytes = _HIGH_BYTES // 4
        self._reading = False
        self._read_is_due = False
        self._write_is_due = False
        self._writing_is_paused = False
        self._closing = False
        self._lost = False
        self._end_came = False
        self._end_is_told = False
        self._reset_came = False
        self._end_asked = False
        self._end_sent = False
        network.transports[self] = None

    # --- asyncio.Transport

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        if not self._reading and not self._closing:
            self._reading = True
            self._read_soon()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = _HIGH_BYTES if low is None else 4 * low
        self._high_bytes = high
        self._low_bytes = high // 4 if low is None else low
        self._pause_protocol_if_full()

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._end_asked:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._lost or not data:
            return
        if self._reset_came or not self.is_open:
            self._lose(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))
            return
        if not self._unsent and len(data) <= self.outgoing.room:
            self.outgoing.send(bytes(data))
            return
        self._unsent += data
        self._send_unsent()
        self._pause_protocol_if_full()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if self._closing or self._end_asked:
            return
        self._end_asked = True
        if not self._unsent:
            self._send_end()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if not self._unsent:
                self._lose(None)

    def abort(self) -> None:
        self._lose(None)

    # --- what network and peer do

    def begin(self, protocol: asyncio.BaseProtocol) -> None:
        """The process has the connection."""
        self._protocol = protocol
        self._reading = True
        protocol.connection_made(self)
        self._read_soon()

    def receive(self, data: bytes) -> None:
        self._unread += data
        self._read()

    def receive_end(self) -> None:
        if self.is_open:
            self._end_came = True
            self._read()

    def receive_reset(self) -> None:
        """What has arrived and was not read may be lost by it, or not."""
        if not self._reset_came and self.is_open:
            self._reset_came = True
            if self.network.shared.draw.random() < 0.5:
                self._unread.clear()
            if self._unsent:
                self._lose(_reset_by_peer())
            else:
                self._read()

    def note_room(self) -> None:
        if self._unsent and not self._write_is_due:
            self._write_is_due = True
            self.loop.call_soon(self._write_on)

    def close_socket(self, *, rudely: bool = False) -> None:
        """The kernel's part of an end. The peer is told, by a reset if it sent what was never
        read here."""
        if not self.is_open:
            return
        self.is_open = False
        if self._unread or rudely:
            self.outgoing.reset()
        elif not self._end_sent and not self._reset_came:
            self._end_sent = True
            self.outgoing.finish()
        self._forget()

    def vanish(self) -> None:
        """The machine lost power: nothing is said, and nothing under way from it arrives."""
        if self.is_open:
            self.is_open = False
            self.outgoing.drop()
            self._forget()

    # --- inside

    def _forget(self) -> None:
        self.network.transports.pop(self, None)
        self.incoming.target_has_died()
        self.outgoing.source_has_closed()

    def _read_soon(self) -> None:
        waiting = self._unread or self._end_came or self._reset_came
        if waiting and not self._read_is_due:
            self._read_is_due = True
            self.loop.call_soon(self._read_now)

    def _read_now(self) -> None:
        self._read_is_due = False
        self._read()

    def _read(self) -> None:
        """One read of the socket, as a loop makes it when there is something to read."""
        if not self._reading or self._closing:
            return
        if self._unread:
            self._take()
            self._read_soon()
        elif self._reset_came:
            self._lose(_reset_by_peer())
        elif self._end_came and not self._end_is_told:
            self._end_is_told = True
            if not cast(asyncio.Protocol, self._protocol).eof_received():
                self.close()

    def _take(self) -> None:
        unread, protocol = self._unread, self._protocol
        try:
            if isinstance(protocol, asyncio.BufferedProtocol):
                buffer: Any = protocol.get_buffer(-1)
                count = min(len(buffer), len(unread))
                buffer[:count] = unread[:count]
                del unread[:count]
                self.incoming.read(count)
                protocol.buffer_updated(count)
            else:
                data = bytes(unread[:READ_BYTES_MAX])
                del unread[: len(data)]
                self.incoming.read(len(data))
                cast(asyncio.Protocol, protocol).data_received(data)
        except Exception as error:
            self.loop.call_exception_handler(
                {"message": "Fatal error: a protocol failed.", "exception": error}
            )
            self._lose(error)

    def _write_on(self) -> None:
        self._write_is_due = False
        if self._lost:
            return
        self._send_unsent()
        if self._writing_is_paused and len(self._unsent) <= self._low_bytes:
            self._writing_is_paused = False
            self._protocol_call("resume_writing")
        if not self._unsent and not self._lost:
            if self._closing:
                self._lose(None)
            elif self._end_asked:
                self._send_end()

    def _send_unsent(self) -> None:
        count = min(len(self._unsent), self.outgoing.room)
        if count:
            data = bytes(self._unsent[:count])
            del self._unsent[:count]
            self.outgoing.send(data)

    def _send_end(self) -> None:
        if not self._end_sent:
            self._end_sent = True
            self.outgoing.finish()

    def _pause_protocol_if_full(self) -> None:
        if len(self._unsent) > self._high_bytes and not self._writing_is_paused:
            self._writing_is_paused = True
            self._protocol_call("pause_writing")

    def _protocol_call(self, name: str) -> None:
        try:
            getattr(self._protocol, name)()
        except Exception as error:
            self.loop.call_exception_handler({"message": f"{name} failed.", "exception": error})

    def _lose(self, error: Exception | None) -> None:
        """The protocol is told of its end soon, once; the socket is closed then."""
        if self._lost:
            return
        self._lost = self._closing = True
        self._unsent.clear()
        self.loop.call_soon(self._finish, error)

    def _finish(self, error: Exception | None) -> None:
        if self._protocol is not None:
            self._protocol.connection_lost(error)
        self.close_socket()


def _reset_by_peer() -> OSError:
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
