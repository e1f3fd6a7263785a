"""Where settings come from: precedence, sources, units, and every fault at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.cli.config import load
from headrace.model.errors import BadSettings
from headrace.model.settings import Settings


def write(directory: Path, text: str) -> str:
    (directory / "headrace.toml").write_text(text)
    return str(directory)


def faults_of(**sources: object) -> tuple[str, ...]:
    with pytest.raises(BadSettings) as refused:
        load(**{"flags": {}, "environ": {}, "directory": "/nowhere", **sources})  # type: ignore[arg-type]
    return refused.value.faults


def test_nothing_given_is_all_default() -> None:
    loaded = load({}, {}, directory="/nowhere")
    assert loaded.settings == Settings()
    assert set(loaded.sources.values()) == {"default"}


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    directory = write(
        tmp_path,
        '[server]\nlisten = ["127.0.0.1:1"]\ndrain_ms = "1s"\n[log]\nsegment_bytes = "2MiB"\n',
    )
    loaded = load(
        {"server.listen": ["127.0.0.1:3"], "server.token_file": None},
        {"HEADRACE_SERVER__LISTEN": "127.0.0.1:2", "HEADRACE_SERVER__DRAIN_MS": "2s"},
        directory=directory,
    )
    assert loaded.settings.server.listen == ("127.0.0.1:3",)
    assert loaded.settings.server.drain_ms == 2_000
    assert loaded.settings.log.segment_bytes == 2 << 20
    assert loaded.settings.server.token_file == ""
    assert loaded.sources["server.listen"] == "--listen"
    assert loaded.sources["server.drain_ms"] == "HEADRACE_SERVER__DRAIN_MS"
    assert loaded.sources["log.segment_bytes"] == "headrace.toml"
    assert loaded.sources["server.token_file"] == "default"


def test_file_is_that_of_the_flag_then_of_the_variable_then_of_the_directory(
    tmp_path: Path,
) -> None:
    directory = write(tmp_path, "[worker]\nconcurrency = 1\n")
    for name, concurrency in (("a.toml", 2), ("b.toml", 3)):
        (tmp_path / name).write_text(f"[worker]\nconcurrency = {concurrency}\n")
    environ = {"HEADRACE_CONFIG": str(tmp_path / "a.toml")}

    assert load({}, {}, directory=directory).settings.worker.concurrency == 1
    assert load({}, environ, directory=directory).settings.worker.concurrency == 2
    flagged = load({}, environ, directory=directory, config=str(tmp_path / "b.toml"))
    assert flagged.settings.worker.concurrency == 3
    assert flagged.sources["worker.concurrency"] == str(tmp_path / "b.toml")


def test_file_that_was_asked_for_must_exist() -> None:
    assert faults_of(config="/nowhere/headrace.toml") == ("/nowhere/headrace.toml: no such file.",)


def test_file_that_is_no_toml_is_a_fault_with_its_place(tmp_path: Path) -> None:
    (fault,) = faults_of(directory=write(tmp_path, "[server\n"))
    assert "headrace.toml" in fault
    assert "line 1" in fault


def test_headrace_url_is_the_url_of_the_client() -> None:
    loaded = load({}, {"HEADRACE_URL": "headrace://h:1"}, directory="/nowhere")
    assert loaded.settings.client.url == "headrace://h:1"
    assert loaded.sources["client.url"] == "HEADRACE_URL"
    flagged = load({"client.url": "./x"}, {"HEADRACE_URL": "headrace://h:1"}, directory="/nowhere")
    assert flagged.settings.client.url == "./x"


@pytest.mark.parametrize(
    ("name", "raw", "expected"),
    [
        ("DRAIN_MS", "1500", 1_500),
        ("DRAIN_MS", "1m30s", 90_000),
        ("UNIX_SOCKET", "No", False),
        ("UNIX_SOCKET", "1", True),
        ("CONNECTIONS_MAX", " 50 ", 50),
        ("LISTEN", "127.0.0.1:1, [::1]:2", ("127.0.0.1:1", "[::1]:2")),
        ("LISTEN", "", ()),
        ("TOKEN_FILE", "/etc/token", "/etc/token"),
    ],
)
def test_text_of_a_variable_is_read_by_the_type_of_its_field(
    name: str, raw: str, expected: object
) -> None:
    loaded = load({}, {f"HEADRACE_SERVER__{name}": raw}, directory="/nowhere")
    assert getattr(loaded.settings.server, name.lower()) == expected


def test_every_fault_of_every_source_is_reported_at_once(tmp_path: Path) -> None:
    directory = write(
        tmp_path,
        "stray = 1\n"
        "worker = 3\n"
        '[server]\nlisten = "0.0.0.0:7431"\nlisen = 1\ntoken_file = 5\n'
        "[loging]\nlevel = 'info'\n"
        "[queue]\npriority_of_nothing = 1\n",
    )
    found = faults_of(
        flags={"worker.concurrency": 0},
        environ={
            "HEADRACE_LOG__SEGMENT_BYTES": "12 furlongs",
            "HEADRACE_LOG__SEGMENT_BYTE": "1",
            "HEADRACE_SERVER_LISTEN": "127.0.0.1:1",
            "HEADRACE_SERVER__UNIX_SOCKET": "perhaps",
            "HEADRACE_ENGINE__JOBS_MAX": "many",
            "HEADRACE_QUEUE__BACKOFF": "random",
            "HEADRACE_SERVER__DRAIN_MS": "2h",
            "HEADRACE_UNRELATED": "fine",
        },
        directory=directory,
    )
    expected = [
        "headrace.toml: stray is unknown.",
        "headrace.toml: worker is a section; write [worker] above its fields.",
        "headrace.toml: server.lisen is unknown; did you mean server.listen?",
        "headrace.toml: server.token_file must be a text, not a number.",
        "headrace.toml: loging is unknown; did you mean logging?",
        "headrace.toml: queue.priority_of_nothing is unknown.",
        "headrace.toml: server.listen 0.0.0.0:7431 can be reached from other machines.",
        "HEADRACE_LOG__SEGMENT_BYTES: log.segment_bytes '12 furlongs' is no size",
        "HEADRACE_LOG__SEGMENT_BYTE: log.segment_byte is unknown; did you mean log.segment_bytes?",
        "HEADRACE_SERVER_LISTEN: did you mean HEADRACE_SERVER__LISTEN, with two underscores?",
        "HEADRACE_SERVER__UNIX_SOCKET: server.unix_socket must be true or false, not 'perhaps'.",
        "HEADRACE_ENGINE__JOBS_MAX: engine.jobs_max must be a whole number, not 'many'.",
        "HEADRACE_QUEUE__BACKOFF: queue.backoff must be one of fixed, linear, exponential",
        "HEADRACE_SERVER__DRAIN_MS: server.drain_ms must be from 0s to 1h, not 2h.",
        "--concurrency: worker.concurrency must be from 1 to 8000, not 0.",
    ]
    missing = [start for start in expected if not any(fault.startswith(start) for fault in found)]

    assert missing == []
    assert len(found) == len(expected)


@pytest.mark.parametrize("raw", [1.5, True, [1], {"a": 1}])
def test_value_of_another_type_is_a_fault(raw: object) -> None:
    for name in ("server.drain_ms", "log.segment_bytes", "engine.jobs_max", "client.url"):
        (fault,) = faults_of(flags={name: raw})
        assert name in fault


def test_rows_name_every_setting_once_with_value_and_source() -> None:
    rows = list(load({"server.drain_ms": "90s"}, {}, directory="/nowhere").rows())
    assert ("server.drain_ms", "1m30s", "--drain-ms") in rows
    assert ("log.segment_bytes", "16MiB", "default") in rows
    assert len({name for name, _, _ in rows}) == len(rows) > 30
