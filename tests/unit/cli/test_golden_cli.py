"""What scripts name stays: no command and no option is ever removed."""

from __future__ import annotations

import importlib
import json

from headrace.cli.nouns import NOUNS
from tests.unit.cli.golden_cli import FILE, current

GOLDEN = json.loads(FILE.read_text(encoding="utf-8"))


def test_no_command_and_no_option_was_removed() -> None:
    now = current()
    missing = [
        f"{command} {name}"
        for command, names in GOLDEN.items()
        for name in names
        if name not in now.get(command, [])
    ]
    assert missing == []


def test_new_commands_and_options_are_in_the_golden_file() -> None:
    """When it fails: `python -m tests.unit.cli.golden_cli`, and read what was added."""
    assert current() == GOLDEN


def test_every_noun_of_the_help_is_an_application_of_that_name() -> None:
    for noun in (noun for group in NOUNS.values() for noun in group):
        app = importlib.import_module(noun.module).app
        assert app.name[0] == f"headrace {noun.name}"
        if app.default_command is None:
            assert app.help == noun.summary
