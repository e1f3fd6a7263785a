"""The top of the program: help without imports, unknown commands, usage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from headrace.cli.main import main
from headrace.cli.nouns import names

HEAVY = ("asyncio", "cyclopts", "msgspec", "rich", "structlog", "uvloop")


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    """What is not imported costs no time: a bound that holds on a slow machine, too."""
    program = (
        "import sys; from headrace.cli.main import main; code = main(['--help']);"
        f"print([name for name in {HEAVY!r} if name in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    shown, imported = done.stdout.strip().rsplit("\n", 1)
    assert imported == "[]"
    assert [name for name in names() if f"\n  {name} " not in shown] == []


def test_help_takes_less_than_150_ms_of_processor_time() -> None:
    program = (
        "import time; from headrace.cli.main import main; main(['--help']);"
        "print(time.process_time())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert float(done.stdout.strip().rsplit("\n", 1)[1]) < 0.150


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_no_command_is_a_request_for_help(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    assert "Usage: headrace COMMAND" in capsys.readouterr().out


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("headrace 0.")


@pytest.mark.parametrize("noun", names())
def test_every_command_has_help(noun: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([noun, "--help"]) == 0
    assert main(["help", noun]) == 0
    assert f"Usage: headrace {noun}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["quue"], "there is no command 'quue'; did you mean queue?"),
        (["xyzzy"], "there is no command 'xyzzy'."),
        (["job", "shwo"], 'Unknown command "shwo"'),
        (["job", "show"], "JOB_ID requires an argument"),
        (["job", "show", "17"], "'17' is not a job id."),
        (["job", "list", "--state", "sleeping"], 'Invalid value "sleeping"'),
        (["job", "list", "--limt", "3"], "Did you mean --limit?"),
        (["job", "list", "--limit", "0"], "--limit must be 1 or more"),
        (["job", "list", "--since", "soon"], "--since 'soon' is neither a time"),
        (["job", "list", "--since", "2026-01-31T12:00:00"], "has no time zone"),
        (["job", "list", "--cursor", "%"], "--cursor is not one that an earlier list has given."),
        (["job", "priority", "300", "x"], "must be from 0 to 255"),
        (["job", "cancel"], "No job id was given."),
        (["enqueue", "k", "--json", "{"], "The payload is no JSON"),
        (["enqueue", "k", "--json", "[1]"], "must be a JSON object"),
        (["enqueue", "k", "--delay", "10 bananas"], "--delay '10 bananas' is no duration"),
        (["queue", "set", "q"], "Nothing to set was given."),
        (["queue", "set", "q", "--attempt-max", "0"], "--attempt-max must be from 1 to 1,000"),
        (["queue", "set", "q", "--dead-bytes", "much"], "--dead-bytes 'much' is no size"),
        (["queue", "purge", "q"], "--state requires an argument"),
        (["dead", "retry"], "Give job ids, or --all, and not both."),
        (["repair", "x", "--truncate-at", "here"], "'here' is not SEGMENT:OFFSET."),
        (["repair", "x", "--truncate-at", "a:1", "--rebuild-current"], "not both"),
        (["bench", "--payload", "1B"], "--payload must be from 2"),
        (["top"], "top needs a terminal."),
        (["worker", "nowhere_at_all:app"], "There is no module 'nowhere_at_all'"),
        (["worker", "jobs"], "'jobs' does not name an application."),
        (["serve", "--listen", "0.0.0.0:1"], "can be reached from other machines"),
        (["job", "list", "--config", "/nowhere.toml"], "/nowhere.toml: no such file."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_a_sentence_and_exit_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_faults_of_all_settings_are_said_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_ENGINE__JOBS_MAX", "many")
    assert main(["serve", "--listen", "nowhere", "--drain", "a while"]) == 2
    said = capsys.readouterr().err
    for word in ("HEADRACE_ENGINE__JOBS_MAX", "'nowhere' is no address", "'a while' is no"):
        assert word in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["queue", "purge", "q", "--state", "dead"],
        ["job", "delete", "0190f3a2-7b1c-7def-8123-456789abcdef"],
        ["dead", "retry", "--all"],
        ["restore", "a", "b"],
        ["repair", "a", "--rebuild-current"],
    ],
    ids=" ".join,
)
def test_destructive_command_wants_yes_where_nobody_can_be_asked(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "nobody can be asked here. Add --yes to do it." in capsys.readouterr().err


@pytest.mark.parametrize("target", [["--url", "nowhere"], ["--url=nowhere"]])
def test_url_before_the_command_belongs_to_it(
    target: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main([*target, "queue", "list"]) == 4
    assert "nowhere" in capsys.readouterr().err
