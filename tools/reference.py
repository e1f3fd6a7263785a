"""Writes the generated pages of `docs/reference`: `python tools/reference.py [--check]`.

The text of the settings page is the docstrings of `headrace.model.settings`, taken from
its source, since Python drops the string after a field. With `--check` nothing is written
and a page that is out of date is a fault.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from headrace.cli.events import EVENTS
from headrace.model import settings as settings_module
from headrace.model.settings import Settings, fields, range_of, sections, shown, words_of

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"


def pages() -> dict[str, str]:
    """File name → content of every generated page."""
    return {"events.md": events_page(), "settings.md": settings_page()}


def settings_page() -> str:
    lines = [
        "# Settings",
        "",
        "Each value comes from the first of: a flag of the command; the environment, as",
        "`HEADRACE_SECTION__FIELD` (two underscores); the file, which is that of `--config` or",
        "`HEADRACE_CONFIG`, else `headrace.toml` in the working directory; the default.",
        "`headrace config show` prints the values in force, each with its source.",
        "",
        'Durations are written as `"500ms"`, `"10m"` or `"1h30m"`, sizes as `"16MiB"`; a bare',
        "number is milliseconds in a name that ends in `_ms`, bytes in one with `_bytes`.",
        "All faults of all sources are reported at once.",
        "",
        "```toml",
        "[server]",
        'listen = ["127.0.0.1:7431"]',
        'drain_ms = "30s"',
        "",
        "[queue]",
        "attempt_max = 8",
        "```",
    ]
    texts = field_texts()
    for section, of in sections().items():
        lines += ["", f"## [{section}]", "", *(inspect.getdoc(of) or "").splitlines()]
        values = getattr(Settings(), section)
        for name, annotation in fields(of).items():
            lines += ["", f"### {section}.{name}", "", facts(name, annotation, values), ""]
            lines += texts[f"{of.__name__}.{name}"].splitlines()
    return "\n".join(lines) + "\n"


def facts(name: str, annotation: Any, values: msgspec.Struct) -> str:
    """One line: default, and what else is allowed."""
    default = shown(name, getattr(values, name))
    line = f"Default `{default}`" if default else "Default: none"
    if bounds := range_of(annotation):
        line += f", from `{shown(name, bounds[0])}` to `{shown(name, bounds[1])}`"
    elif words := words_of(annotation):
        line += ", one of " + ", ".join(f"`{word}`" for word in words)
    elif isinstance(getattr(values, name), tuple):
        line += " (a list; in the environment with commas)"
    return f"{line}."


def field_texts() -> dict[str, str]:
    """`Class.field` → the docstring that follows the field in the source."""
    tree = ast.parse(inspect.getsource(settings_module))
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            for field, text in documented_fields(node):
                found[f"{node.name}.{field}"] = text
    return found


def documented_fields(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, after in zip(node.body, node.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            yield field.target.id, inspect.cleandoc(str(after.value.value))


def events_page() -> str:
    lines = [
        "# Log events",
        "",
        "What the server and workers write to standard error: text on a terminal, one JSON",
        "object a line elsewhere (`logging.format`). Every line has `event`, `level` and",
        "`timestamp` (UTC), and the facts of the event. Names are never changed or reused.",
        "Payloads, results, headers and tokens are never written; what a handler puts into the",
        "message of its exception is.",
        "",
        "| event | level | facts | meaning |",
        "|---|---|---|---|",
    ]
    for name, event in sorted(EVENTS.items()):
        listed = ", ".join(f"`{field}`" for field in event.fields)
        lines.append(f"| `{name}` | {event.level} | {listed} | {event.meaning} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    stale = []
    for name, content in pages().items():
        path = FOLDER / name
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            stale.append(name)
            if "--check" not in arguments:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content, encoding="utf-8")
    print(f"docs/reference: {', '.join(stale) or 'nothing'} out of date")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
