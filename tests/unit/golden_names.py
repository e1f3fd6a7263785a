"""The names that applications, scripts and alerts use, as they are now:
`python -m tests.unit.golden_names` writes them to the golden file. What is in that file may
never go away."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import headrace
import headrace.testing
from headrace import App, Client, Job, JobContext, JobType, Retry, WorkerOptions
from headrace.cli import exits
from headrace.cli.events import EVENTS
from headrace.client.hooks import Hooks
from headrace.client.placement import EnqueueOptions
from headrace.model import settings

FILE = Path(__file__).with_name("golden_names.json")
METRICS = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
EXIT_CODES = ("OK", "FAILED", "USAGE", "NOT_FOUND", "CANNOT_CONNECT", "UNKNOWN", "BUG", "IO")
MORE_EXIT_CODES = ("LOCKED", "DATA", "INTERRUPTED")


def current() -> dict[str, list[str]]:
    """What it is → its names, sorted."""
    found = {
        "headrace": list(headrace.__all__),
        "headrace.testing": list(headrace.testing.__all__),
        "options of an enqueue": list(EnqueueOptions.__annotations__),
        "arguments of App.job": list(inspect.signature(App.job).parameters)[2:],
        "fields of Retry": list(Retry.__struct_fields__),
        "fields of WorkerOptions": list(WorkerOptions.__struct_fields__),
        "settings": [
            f"{section}.{field}"
            for section, fields in settings.sections().items()
            for field in settings.fields(fields)
        ],
        "events": list(EVENTS),
        "metrics": re.findall(r"`(headrace_\w+)", METRICS.read_text(encoding="utf-8")),
        "exit codes": [f"{getattr(exits, name)} {name}" for name in EXIT_CODES + MORE_EXIT_CODES],
    }
    for cls in (App, Client, Job, JobContext, JobType, Hooks, headrace.testing.TestApp):
        found[f"of {cls.__name__}"] = public_names(cls)
    return {what: sorted(names) for what, names in sorted(found.items())}


def public_names(cls: type[Any]) -> list[str]:
    return [name for name in dir(cls) if not name.startswith("_")]


if __name__ == "__main__":
    FILE.write_text(json.dumps(current(), indent=2) + "\n", encoding="utf-8")
