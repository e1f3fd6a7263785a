"""What a worker has to tell its operator: an event name and fields, never a payload."""

from __future__ import annotations

import logging
from typing import Any, Protocol

_QUIET = frozenset({"worker_connected", "worker_drained", "worker_started"})


class WorkerReport(Protocol):
    """Takes `job_failed`, `worker_connected` … and never raises."""

    def __call__(self, event: str, **fields: Any) -> None: ...


def log_report(event: str, **fields: Any) -> None:
    """To the logger `headrace.worker` of the process that the worker lives in."""
    level = logging.INFO if event in _QUIET else logging.WARNING
    shown = " ".join(f"{name}={value!r}" for name, value in fields.items())
    logging.getLogger("headrace.worker").log(level, "%s %s", event, shown)
