"""What applications, scripts and alerts name stays."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import headrace
import headrace.testing
from tests.unit.golden_names import FILE, current

GOLDEN = json.loads(FILE.read_text(encoding="utf-8"))


def test_no_name_that_others_use_was_removed() -> None:
    now = current()
    missing = [
        f"{what}: {name}"
        for what, names in GOLDEN.items()
        for name in names
        if name not in now.get(what, [])
    ]
    assert missing == []


def test_new_names_are_in_the_golden_file() -> None:
    """When it fails: `python -m tests.unit.golden_names`, and read what was added."""
    assert current() == GOLDEN


def test_every_exported_name_is_there() -> None:
    for module in (headrace, headrace.testing):
        assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_metrics_are_in_seconds_and_bytes() -> None:
    names = current()["metrics"]

    assert [name for name in names if name.endswith(("_ms", "_us", "_kib", "_mib"))] == []


def test_version_is_that_of_the_distribution() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")

    assert headrace.__version__ == tomllib.loads(text)["project"]["version"]
