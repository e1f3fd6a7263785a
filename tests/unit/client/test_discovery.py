"""Finding `module:app`, and what is said when it is not there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from headrace import App
from headrace.client.discovery import load_app
from headrace.client.errors import NotFound


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`found_jobs.py` in the working directory."""
    source = "from headrace import App\nqueue = App('headrace://h')\nother = 3\n"
    (tmp_path / "found_jobs.py").write_text(source)
    (tmp_path / "broken_jobs.py").write_text("import not_installed_anywhere\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("found_jobs", "broken_jobs"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_app_is_found_in_the_working_directory() -> None:
    assert isinstance(load_app("found_jobs:queue"), App)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("found_jobs", "jobs:app"),
        (":queue", "jobs:app"),
        ("found_jobs.py:queue", "Write found_jobs:queue"),
        ("nowhere:app", "no module 'nowhere'"),
        ("nowhere.inside:app", "no module 'nowhere'"),
        ("found_jobs:app", r"no 'app'.*It has: queue"),
        ("found_jobs:other", r"a int.*It has: queue"),
    ],
)
def test_what_is_not_there_is_said_in_a_sentence(target: str, said: str) -> None:
    with pytest.raises(NotFound, match=said):
        load_app(target)


def test_fault_inside_the_module_keeps_its_own_traceback() -> None:
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        load_app("broken_jobs:app")
