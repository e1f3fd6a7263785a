"""The commands and options of the program, as they are now: `python -m tests.unit.cli.golden_cli`
writes them to the golden file. What is in that file may never go away: scripts name it."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from headrace.cli.nouns import NOUNS

FILE = Path(__file__).with_name("golden_cli.json")


def current() -> dict[str, list[str]]:
    """`noun` or `noun verb` → its arguments and options, sorted."""
    found: dict[str, list[str]] = {}
    for noun in (noun for group in NOUNS.values() for noun in group):
        app = importlib.import_module(noun.module).app
        if app.default_command is not None:
            found[noun.name] = names(app)
        for verb in app:
            if not verb.startswith("-"):
                found[f"{noun.name} {verb}"] = names(app[verb], app.default_parameter)
    return dict(sorted(found.items()))


def names(app: Any, parameter: Any = None) -> list[str]:
    arguments = app.assemble_argument_collection(default_parameter=parameter)
    return sorted({name for argument in arguments for name in argument.names if argument.show})


if __name__ == "__main__":
    FILE.write_text(json.dumps(current(), indent=2) + "\n", encoding="utf-8")
