"""`headrace config show`: every value with its source."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headrace.cli.main import main


def test_every_setting_is_shown_with_value_and_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "headrace.toml").write_text('[log]\nsegment_bytes = "2MiB"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_SERVER__DRAIN_MS", "5s")
    assert main(["config", "show", "--url", "./elsewhere"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["log.segment_bytes", "2MiB", "headrace.toml"] in rows
    assert ["server.drain_ms", "5s", "HEADRACE_SERVER__DRAIN_MS"] in rows
    assert ["client.url", "./elsewhere", "--url"] in rows
    assert ["queue.attempt_max", "8", "default"] in rows


def test_json_has_whole_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["config", "show", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["log.segment_bytes"] == {"value": 16 << 20, "source": "default"}
    assert found["server.listen"] == {"value": ["127.0.0.1:7431"], "source": "default"}
