"""HELLO judged, WELCOME made: version, token, namespace.

Must never say how much of a token was right, neither in words nor in time: digests of
equal length are compared in constant time, and a missing token costs the same.
"""

from __future__ import annotations

import hashlib
import hmac

from headrace.model.errors import (
    BadRequest,
    HeadraceError,
    Unauthenticated,
    Unsupported,
    UnsupportedVersion,
)
from headrace.model.handshake import (
    PROTOCOL_VERSION,
    PROTOCOL_VERSION_MIN,
    SESSION_ATTACH,
    SESSION_NONE,
    SESSION_RESUME,
    Hello,
)

NAMESPACE = "default"
SESSION_ID_BYTES = 16


class TokenCheck:
    """The one token that a server takes, kept as its digest; or none at all."""

    __slots__ = ("_digest",)

    def __init__(self, token: str | None) -> None:
        self._digest = None if token is None else _digest(token)

    def accepts(self, offered: str | None) -> bool:
        if self._digest is None:
            return True
        given = _digest(offered or "")
        return hmac.compare_digest(given, self._digest)


def _digest(token: str) -> bytes:
    return hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=32).digest()


def negotiate(hello: Hello, tokens: TokenCheck) -> int:
    """The protocol version that both ends speak from here on.

    Raises: `UnsupportedVersion`, `Unauthenticated`, `Unsupported` (namespace),
    `BadRequest` (session). The version comes first: without one, nothing else in HELLO
    can be relied on to mean what we think.
    """
    version = common_version(hello.protocol_min, hello.protocol_max)
    if not tokens.accepts(hello.auth):
        raise Unauthenticated(
            "The token is missing or wrong.",
            hint="Give the server's token: HEADRACE_TOKEN, or the `token` of the client.",
        )
    if hello.namespace != NAMESPACE:
        raise Unsupported(
            f"There is no namespace {hello.namespace!r}.",
            hint=f"Leave the namespace out; only {NAMESPACE!r} exists.",
        )
    _check_session(hello)
    return version


def common_version(
    theirs_min: int,
    theirs_max: int,
    ours_min: int = PROTOCOL_VERSION_MIN,
    ours_max: int = PROTOCOL_VERSION,
) -> int:
    """The highest version that both ranges hold. Raises: `UnsupportedVersion`."""
    version = min(theirs_max, ours_max)
    if theirs_min > theirs_max or version < max(theirs_min, ours_min):
        raise UnsupportedVersion(
            f"The client speaks protocol {theirs_min} to {theirs_max}, "
            f"this server {ours_min} to {ours_max}.",
            hint="Upgrade the older of the two; neighbouring versions understand each other.",
            protocol_min=ours_min,
            protocol_max=ours_max,
        )
    return version


def _check_session(hello: Hello) -> None:
    known = hello.session_mode in (SESSION_NONE, SESSION_ATTACH, SESSION_RESUME)
    if not known or (hello.session_mode == SESSION_NONE) != (hello.session_id is None):
        raise BadRequest(
            f"HELLO names session mode {hello.session_mode} "
            f"{'without' if hello.session_id is None else 'with'} a session id.",
            hint="Mode 0 goes without a session id; 1 (attach) and 2 (resume) go with one.",
        )
    if hello.session_id is not None and len(hello.session_id) != SESSION_ID_BYTES:
        raise BadRequest(f"A session id has {SESSION_ID_BYTES} bytes, not {len(hello.session_id)}.")


def check_welcome(protocol: int) -> HeadraceError | None:
    """Why the client cannot go on with the version that the server chose, or None."""
    if PROTOCOL_VERSION_MIN <= protocol <= PROTOCOL_VERSION:
        return None
    return UnsupportedVersion(
        f"The server chose protocol {protocol}, which it was not offered.",
        hint="Upgrade this client, or tell the server's maintainers.",
    )
