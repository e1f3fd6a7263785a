"""The catalogue of log events: what each means, and how grave it is.

An event is named noun-verb in the past tense and never renamed, since people alert on it.
Facts are fields whose names end in their unit. `docs/reference/events.md` is generated
from this table, and a test compares it with every report in the source.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple


class Event(NamedTuple):
    level: Literal["debug", "info", "warning", "error"]
    fields: tuple[str, ...]
    meaning: str
    """What happened, and what an operator should do about it, if anything."""


EVENTS: Mapping[str, Event] = {
    "client_refused": Event(
        "warning",
        ("code", "client_name"),
        "A client could not open its connection: wrong or missing token, or no protocol version"
        " in common. Many of them from one place: somebody tries.",
    ),
    "connection_refused": Event(
        "warning",
        ("connections_max",),
        "There are as many connections as `server.connections_max` allows. Raise it, and the"
        " limit of open files with it.",
    ),
    "message_not_sent": Event(
        "error",
        ("message", "why"),
        "A reply or push could not be written in the wire format, and its asker got `internal`:"
        " a bug in headrace. Please report it.",
    ),
    "silent_peer_disconnected": Event(
        "info",
        ("silent_ms",),
        "Nothing came from a peer for so long that it is taken for gone. Its session and leases"
        " live on until they expire.",
    ),
    "slow_reader_disconnected": Event(
        "warning",
        ("unsent_bytes",),
        "A peer took nothing of what was written to it for a minute.",
    ),
    "snapshot_failed": Event(
        "warning",
        ("index", "error"),
        "A snapshot could not be finished, most often for want of disk space. The log stays and"
        " grows; it is tried again.",
    ),
    "snapshot_published": Event(
        "info",
        ("index", "size_bytes", "duration_ms"),
        "State is on the disk up to `index`; older log can go.",
    ),
    "wall_clock_jumped": Event(
        "warning",
        ("jump_ms", "followed_ms"),
        "The wall clock jumped and boot time does not confirm it. Only `followed_ms` of it is"
        " followed until the next start. Check the time service of the machine.",
    ),
}
