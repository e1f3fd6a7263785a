"""What headrace logs, and how it looks: text on a terminal, JSON elsewhere.

Layers below hand an event and its facts to a `Report`; here it gets its level from the
catalogue (`headrace.cli.events`) and becomes a line. Must never write a payload, a result,
a header or a token, whoever passes one: such fields are dropped by name, bytes are shown
by their length, and a long text is cut.

structlog is imported only when a log is opened, and no other layer knows it. Nothing is
configured globally: an embedded engine does not change how its host process logs.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import IO, TYPE_CHECKING, Any

from headrace.cli.events import EVENTS
from headrace.model.limits import LOG_VALUE_CHARACTERS_MAX
from headrace.model.settings import LoggingSettings

if TYPE_CHECKING:
    from structlog.typing import Processor

    from headrace.runtime.reports import Report

LEVELS: Mapping[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
SECRET_FIELDS = frozenset(
    {"args", "auth", "authorization", "body", "data", "header", "headers", "key", "kwargs"}
    | {"password", "payload", "progress", "result", "results", "secret", "token", "tokens"}
)
"""Never written, whatever they hold: users put secrets into all of these."""
_URL_USER = re.compile(r"//[^/@\s]+@")


def open_report(settings: LoggingSettings, stream: IO[str] | None = None) -> Report:
    """A `Report` that writes lines to `stream`, by default standard error.

    It never raises: a stream that is closed or full loses the line, not the job.
    """
    log = open_log(settings, stream)

    def report(event: str, **fields: Any) -> None:
        known = EVENTS.get(event)
        with contextlib.suppress(Exception):
            log.log(LEVELS[known.level if known else "info"], event, **fields)

    return report


def open_log(settings: LoggingSettings, stream: IO[str] | None = None) -> Any:
    """A structlog logger on `stream`, by default standard error."""
    import structlog

    target = stream if stream is not None else sys.stderr
    return structlog.wrap_logger(
        structlog.WriteLogger(target),  # type: ignore[arg-type]  # it needs write and flush only
        processors=_processors(settings, target),
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[settings.level]),
        cache_logger_on_first_use=True,
    )


def _processors(settings: LoggingSettings, target: IO[str]) -> list[Processor]:
    import structlog

    shared: list[Processor] = [
        without_secrets,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if settings.format == "text" or (settings.format == "auto" and target.isatty()):
        as_text = structlog.dev.ConsoleRenderer(
            colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        return [*shared, as_text]
    as_json = structlog.processors.JSONRenderer(sort_keys=True, default=str)
    return [*shared, structlog.processors.format_exc_info, as_json]


def without_secrets(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """The event without the fields that may hold what users entrusted to us."""
    for name in [name for name in event if name.lower() in SECRET_FIELDS]:
        del event[name]
    for name, value in event.items():
        if isinstance(value, bytes | bytearray | memoryview):
            event[name] = f"<{len(value)} bytes>"
        elif isinstance(value, str):
            event[name] = _presentable(value)
    return event


def _presentable(text: str) -> str:
    """`text` cut to its limit, and without the user and password of a URL in it."""
    shown = _URL_USER.sub("//***@", text[: LOG_VALUE_CHARACTERS_MAX + 1])
    return (
        shown if len(text) <= LOG_VALUE_CHARACTERS_MAX else f"{shown[:LOG_VALUE_CHARACTERS_MAX]}…"
    )
