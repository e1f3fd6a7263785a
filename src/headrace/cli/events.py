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
    "wall_clock_jumped": Event(
        "warning",
        ("jump_ms", "followed_ms"),
        "The wall clock jumped and boot time does not confirm it. Only `followed_ms` of it is"
        " followed until the next start. Check the time service of the machine.",
    ),
}
