"""The clock of all connections: who is late, who is silent, who does not read.

One timer for all of them instead of one each. Equal patience for equal things keeps each
kind of deadline sorted by itself, so a pass looks only at what is due; the search for
silent peers goes through everybody, in slices with the loop between.

Must never end a connection for being idle: a silent peer is asked first.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headrace.model.errors import BadRequest
from headrace.server.edge import Edge

if TYPE_CHECKING:
    from headrace.server.connection_protocol import ServerProtocol

TICK_MS_MAX = 1_000
LINGER_MS = 1_000
PAUSE_MS = 1_000
"""A tick that comes this late says that the loop did not run."""
SLICE_CONNECTIONS = 256
"""Looked at before the loop gets its turn: at most about a millisecond of pings."""


class Watch:
    """Deadlines by kind, each in order of time."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._loop = edge.loop
        self._strangers: dict[ServerProtocol, float] = {}
        self._leaving: dict[ServerProtocol, float] = {}
        self._slow: dict[ServerProtocol, tuple[float, int]] = {}
        """(deadline, bytes that had to be sent when it was set)"""
        self._round: list[ServerProtocol] = []
        self._timer: asyncio.TimerHandle | None = None
        self._tick_due_s = 0.0
        limits = edge.limits
        shortest_ms = min(
            limits.handshake_ms,
            limits.ping_after_ms,
            limits.silence_ms_max,
            limits.slow_reader_ms_max,
        )
        self._tick_s = min(TICK_MS_MAX, shortest_ms / 5) / 1000

    def start(self) -> None:
        self._plan_tick()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def await_handshake(self, connection: ServerProtocol) -> None:
        self._strangers[connection] = self._in_ms(self._edge.limits.handshake_ms)

    def has_shaken_hands(self, connection: ServerProtocol) -> None:
        self._strangers.pop(connection, None)

    def await_leaving(self, connection: ServerProtocol) -> None:
        self._strangers.pop(connection, None)
        self._leaving.setdefault(connection, self._in_ms(LINGER_MS))

    def await_drain(self, connection: ServerProtocol) -> None:
        deadline_s = self._in_ms(self._edge.limits.slow_reader_ms_max)
        self._slow[connection] = (deadline_s, connection.unsent_bytes)

    def has_drained(self, connection: ServerProtocol) -> None:
        self._slow.pop(connection, None)

    def forget(self, connection: ServerProtocol) -> None:
        self._strangers.pop(connection, None)
        self._leaving.pop(connection, None)
        self._slow.pop(connection, None)

    def _in_ms(self, duration_ms: int) -> float:
        return self._loop.time() + duration_ms / 1000

    def _tick(self) -> None:
        now_s = self._loop.time()
        late_s = now_s - self._tick_due_s
        if late_s > PAUSE_MS / 1000:
            self._forgive(late_s)
        self._end_strangers(now_s)
        self._end_leaving(now_s)
        self._end_slow(now_s)
        if not self._round:
            self._round = list(self._edge.connections)
            self._look_for_silent()
        self._plan_tick()

    def _plan_tick(self) -> None:
        self._tick_due_s = self._loop.time() + self._tick_s
        self._timer = self._loop.call_at(self._tick_due_s, self._tick)

    def _forgive(self, late_s: float) -> None:
        """The process stood still (stopped, or the machine slept): nobody else was late."""
        for deadlines in (self._strangers, self._leaving):
            for connection in deadlines:
                deadlines[connection] += late_s
        for connection, (deadline_s, unsent_bytes) in self._slow.items():
            self._slow[connection] = (deadline_s + late_s, unsent_bytes)
        for connection in self._edge.connections:
            connection.heard_at_s += late_s

    def _end_strangers(self, now_s: float) -> None:
        for connection in _due(self._strangers, now_s):
            connection.end(
                BadRequest(
                    f"HELLO did not come within {self._edge.limits.handshake_ms} ms.",
                    hint="Send preamble and HELLO right after connecting.",
                )
            )

    def _end_leaving(self, now_s: float) -> None:
        for connection in _due(self._leaving, now_s):
            connection.abort()

    def _end_slow(self, now_s: float) -> None:
        """Whoever drained anything since the last look gets the whole time again."""
        for connection, (deadline_s, unsent_before) in list(self._slow.items()):
            unsent_bytes = connection.unsent_bytes
            if unsent_bytes < unsent_before:
                self.await_drain(connection)
            elif deadline_s <= now_s:
                self._edge.report("slow_reader_disconnected", unsent_bytes=unsent_bytes)
                connection.abort()

    def _look_for_silent(self) -> None:
        limits, now_s = self._edge.limits, self._loop.time()
        todo, self._round = self._round[:SLICE_CONNECTIONS], self._round[SLICE_CONNECTIONS:]
        for connection in todo:
            if connection.is_paused:
                continue
            silent_ms = (now_s - connection.heard_at_s) * 1000
            if silent_ms > limits.silence_ms_max:
                self._edge.report("silent_peer_disconnected", silent_ms=int(silent_ms))
                connection.abort()
            elif silent_ms > limits.ping_after_ms and not connection.pinged:
                connection.ping(self._edge.node.log_time_ms())
        if self._round:
            self._loop.call_soon(self._look_for_silent)


def _due(deadlines: dict[ServerProtocol, float], now_s: float) -> list[ServerProtocol]:
    """Those whose time is over, oldest first; taken out."""
    found = []
    for connection, deadline_s in deadlines.items():
        if deadline_s > now_s:
            break
        found.append(connection)
    for connection in found:
        del deadlines[connection]
    return found
