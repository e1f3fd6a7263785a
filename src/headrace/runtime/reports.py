"""What the node has to tell its operator: an event and its fields.

The server turns reports into structured log lines; the names are its catalogue.
"""

from __future__ import annotations

from typing import Any, Protocol


class Report(Protocol):
    """Takes `wall_clock_jumped`, `log_refused`, `snapshot_published` … and never raises."""

    def __call__(self, event: str, **fields: Any) -> None: ...


def ignore_report(event: str, **fields: Any) -> None:
    """For who does not want to know."""
