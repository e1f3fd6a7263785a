"""What all connections of one server share: the node, the bounds, the read buffer.

Must never hold anything of a connection that is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from headrace.model.errors import HeadraceError
from headrace.model.handshake import SOFTWARE_VERSION, Hello, Welcome
from headrace.model.limits import (
    CONNECTIONS_MAX,
    FRAME_BYTES_MAX,
    HANDSHAKE_MS_MAX,
    HEARTBEATS_PER_LEASE,
    IN_FLIGHT_PER_CONNECTION_MAX,
    JOBS_PER_CALL_MAX,
    LEASE_MS_DEFAULT,
    PAYLOAD_BYTES_MAX,
    PING_AFTER_MS,
    READ_BUFFER_BYTES,
    RESULT_BYTES_MAX,
    SILENCE_MS_MAX,
    SLOW_READER_MS_MAX,
    UNFINISHED_BYTES_MAX,
    WRITE_BUFFER_BYTES_MAX,
)
from headrace.protocol.handshake import TokenCheck, negotiate
from headrace.runtime.node import Node
from headrace.runtime.reports import Report

if TYPE_CHECKING:
    from headrace.server.connection_protocol import ServerProtocol

_NO_TOKEN = TokenCheck(None)

HandOverTo = Callable[[str], None]


class EdgeLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of every connection; see `model/limits.py` for their reasons."""

    connections_max: int = CONNECTIONS_MAX
    in_flight_max: int = IN_FLIGHT_PER_CONNECTION_MAX
    handshake_ms: int = HANDSHAKE_MS_MAX
    ping_after_ms: int = PING_AFTER_MS
    silence_ms_max: int = SILENCE_MS_MAX
    write_buffer_bytes_max: int = WRITE_BUFFER_BYTES_MAX
    slow_reader_ms_max: int = SLOW_READER_MS_MAX
    unfinished_bytes_max: int = UNFINISHED_BYTES_MAX
    """Of all connections together."""


class Edge:
    """One of it a server, used on the node's loop only."""

    def __init__(
        self,
        node: Node,
        limits: EdgeLimits,
        tokens: TokenCheck,
        report: Report,
        hand_over: HandOverTo | None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.node = node
        self.limits = limits
        self.report = report
        self.hand_over = hand_over
        """Called with a reason when somebody asks for the directory; None: it stays ours."""
        self.read_buffer = memoryview(bytearray(READ_BUFFER_BYTES))
        self.connections: dict[ServerProtocol, None] = {}
        self.unfinished_bytes = 0
        """Kept of frames that have not ended, all connections together."""
        self._emptied: asyncio.Event | None = None
        self._tokens = tokens
        self._announced = {
            "frame_bytes_max": FRAME_BYTES_MAX,
            "in_flight_max": limits.in_flight_max,
            "jobs_per_call_max": JOBS_PER_CALL_MAX,
            "payload_bytes_max": PAYLOAD_BYTES_MAX,
            "result_bytes_max": RESULT_BYTES_MAX,
            "silence_ms_max": limits.silence_ms_max,
        }

    @property
    def is_full(self) -> bool:
        return len(self.connections) >= self.limits.connections_max

    def greet(self, hello: Hello, *, is_local: bool) -> Welcome:
        """The answer to HELLO. Raises: `HeadraceError`, and the connection ends.

        `is_local`: it came through the Unix socket. Only the owner of the directory can
        open that, who may read all of its files anyway: a token would guard nothing.
        """
        version = negotiate(hello, _NO_TOKEN if is_local else self._tokens)
        node = self.node
        known = hello.session_id is not None and node.knows_session(hello.session_id)
        return Welcome(
            protocol=version,
            server_version=SOFTWARE_VERSION,
            node_id=node.node_id,
            cluster_id=node.cluster_id,
            session_id=hello.session_id if known else None,
            epoch=node.epoch,
            log_time_ms=node.log_time_ms(),
            heartbeat_ms=LEASE_MS_DEFAULT // HEARTBEATS_PER_LEASE,
            limits=self._announced,
        )

    def forget(self, connection: ServerProtocol) -> None:
        self.connections.pop(connection, None)
        if self._emptied is not None and not self.connections:
            self._emptied.set()

    async def close(self, error: HeadraceError, patience_ms: int) -> None:
        """Every connection is told why and has ended, by force after `patience_ms`."""
        self._emptied = asyncio.Event()
        for connection in list(self.connections):
            connection.end(error)
        if self.connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), patience_ms / 1000)
        for connection in list(self.connections):
            connection.abort()
