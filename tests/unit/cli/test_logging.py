"""Log lines: their form, their level, and what is never in them."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest

from headrace.cli.logging import SECRET_FIELDS, open_log, open_report
from headrace.model.limits import LOG_VALUE_CHARACTERS_MAX
from headrace.model.settings import LoggingSettings


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_line_is_json_where_no_terminal_is() -> None:
    stream = io.StringIO()
    open_report(LoggingSettings(), stream)("wall_clock_jumped", jump_ms=7, followed_ms=3)
    line = json.loads(stream.getvalue())

    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "wall_clock_jumped",
        "level": "warning",
        "jump_ms": 7,
        "followed_ms": 3,
    }


def test_line_is_text_on_a_terminal_and_format_wins_over_both() -> None:
    terminal, file = Terminal(), io.StringIO()
    open_report(LoggingSettings(), terminal)("wall_clock_jumped", jump_ms=7)
    assert "wall_clock_jumped" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")

    open_report(LoggingSettings(format="text"), file)("wall_clock_jumped", jump_ms=7)
    assert "jump_ms=7" in file.getvalue()
    assert "\x1b" not in file.getvalue()
    terminal = Terminal()
    open_report(LoggingSettings(format="json"), terminal)("wall_clock_jumped", jump_ms=7)
    assert json.loads(terminal.getvalue())["jump_ms"] == 7


def test_event_below_the_level_is_left_out() -> None:
    stream = io.StringIO()
    report = open_report(LoggingSettings(level="error"), stream)
    report("wall_clock_jumped", jump_ms=7)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("name", sorted(SECRET_FIELDS | {"Payload", "TOKEN"}))
def test_secret_field_is_never_written(name: str, form: str) -> None:
    stream = io.StringIO()
    log = open_log(LoggingSettings(format=form), stream)  # type: ignore[arg-type]
    log.error("job_failed", job_id="j1", **{name: "canary-4711"})

    assert "j1" in stream.getvalue()
    assert "canary" not in stream.getvalue()


def test_bytes_and_long_texts_are_not_written_whole() -> None:
    stream = io.StringIO()
    log = open_log(LoggingSettings(), stream)
    log.info("x", raw=b"canary-4711", text="a" * 5_000)
    line = json.loads(stream.getvalue())

    assert line["raw"] == "<11 bytes>"
    assert line["text"] == "a" * LOG_VALUE_CHARACTERS_MAX + "…"


def test_url_is_written_without_its_password() -> None:
    stream = io.StringIO()
    report = open_report(LoggingSettings(), stream)
    report("connection_lost", url="headrace://:canary-4711@db:1", message="no //a:canary@b")
    line = json.loads(stream.getvalue())

    assert line["url"] == "headrace://***@db:1"
    assert "canary" not in stream.getvalue()


def test_traceback_shows_no_values_of_variables() -> None:
    stream = io.StringIO()
    log = open_log(LoggingSettings(), stream)
    secret = "canary-" + "4711"
    try:
        raise ValueError(f"length {len(secret)}")
    except ValueError:
        log.error("job_failed", exc_info=True)
    line = json.loads(stream.getvalue())

    assert "ValueError: length 11" in line["exception"]
    assert secret not in stream.getvalue()


def test_report_survives_a_closed_stream() -> None:
    stream = io.StringIO()
    report = open_report(LoggingSettings(), stream)
    stream.close()
    report("wall_clock_jumped", jump_ms=7)


def test_structlog_is_not_loaded_before_something_logs() -> None:
    code = "import sys, headrace.cli.logging; sys.exit('structlog' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
