"""The first frames of a connection, and the frame of a refusal."""

from __future__ import annotations

from typing import Any

import msgspec

PROTOCOL_VERSION = 1
"""Raised when a peer of the version before could misread us. Both ends speak N and N-1."""
PROTOCOL_VERSION_MIN = 1
SOFTWARE_VERSION = "0.1.0"
"""Of this program, as both ends show it; decides nothing."""

SESSION_NONE = 0
SESSION_ATTACH = 1
"""A further connection of a session, such as the one of its heartbeats; receives no jobs."""
SESSION_RESUME = 2
"""The connection that takes over the session's jobs; RESUME_SESSION follows."""


class Hello(msgspec.Struct, array_like=True, gc=False):
    """First frame of a client, within the handshake time."""

    protocol_min: int = PROTOCOL_VERSION_MIN
    protocol_max: int = PROTOCOL_VERSION
    client_name: str = ""
    client_version: str = ""
    auth: str | None = None
    namespace: str = "default"
    session_id: bytes | None = None
    session_mode: int = SESSION_NONE
    features: tuple[str, ...] = ()


class Welcome(msgspec.Struct, array_like=True, gc=False):
    """The server's answer; from here on both speak `protocol`."""

    protocol: int = PROTOCOL_VERSION
    server_version: str = ""
    node_id: bytes = b""
    cluster_id: bytes = b""
    session_id: bytes | None = None
    """The session that this connection belongs to; nil when it is not known (any more)."""
    epoch: int = 0
    log_time_ms: int = 0
    heartbeat_ms: int = 0
    limits: dict[str, int] = {}
    """Names as in the settings: `frame_bytes_max`, `payload_bytes_max`, `jobs_per_call_max`…"""
    features: tuple[str, ...] = ()


class ErrorFrame(msgspec.Struct, array_like=True, gc=False):
    """The answer to a request that failed, or (request id 0) the reason of a disconnect."""

    code: str = "internal"
    message: str = ""
    hint: str = ""
    outcome: str = "refused"
    retry_after_ms: int = 0
    details: dict[str, Any] | None = None
    index: int = 0


class Pong(msgspec.Struct, array_like=True, gc=False):
    """Answer to PING."""

    now_ms: int = 0


class HandOver(msgspec.Struct, array_like=True, gc=False):
    """Asks an embedded owner to close the directory, so that a server can open it."""

    reason: str = ""
