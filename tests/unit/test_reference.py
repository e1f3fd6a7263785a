"""The generated pages say what the code does."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from headrace.cli.events import EVENTS
from headrace.model.settings import fields, sections
from tools import reference

SOURCE = Path(reference.__file__).parent.parent / "src" / "headrace"


def test_pages_are_up_to_date() -> None:
    """When it fails: `python tools/reference.py`, and read what changed."""
    for name, content in reference.pages().items():
        assert (reference.FOLDER / name).read_text(encoding="utf-8") == content, name


def test_every_setting_has_a_text() -> None:
    texts = reference.field_texts()
    for of in sections().values():
        for name in fields(of):
            assert texts.get(f"{of.__name__}.{name}", "").endswith("."), f"{of.__name__}.{name}"


def test_every_section_says_when_a_change_holds() -> None:
    for of in sections().values():
        assert "Changes" in (of.__doc__ or "") or "Read when" in (of.__doc__ or ""), of


def reports() -> Iterator[tuple[str, frozenset[str], str]]:
    """(event, its fields, place) of every call of something named `report`."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name.strip("_") == "report":
                given = frozenset(keyword.arg or "**" for keyword in node.keywords)
                for event in texts_of(node.args[0]):
                    yield event, given, f"{path.name}:{node.lineno}"


def texts_of(argument: ast.expr) -> list[str]:
    """The text, or both of `"disk_full" if full else "disk_has_room"`."""
    if isinstance(argument, ast.IfExp):
        return texts_of(argument.body) + texts_of(argument.orelse)
    return [str(argument.value)] if isinstance(argument, ast.Constant) else []


def test_catalogue_lists_exactly_the_events_that_are_reported() -> None:
    reported = {event for event, _, _ in reports()}
    assert sorted(reported - set(EVENTS)) == [], "add these to headrace/cli/events.py"
    assert sorted(set(EVENTS) - reported) == [], "nobody reports these any more"


def test_facts_of_an_event_are_those_of_its_catalogue() -> None:
    for event, given, place in reports():
        unknown = given - set(EVENTS[event].fields) - {"**"} if event in EVENTS else set()
        assert not unknown, f"{place}: {event} has {sorted(unknown)}"
