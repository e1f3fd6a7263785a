"""The field tables of `spec/wire-protocol.md`, as the structs would have them."""

from __future__ import annotations

import re
import types
import typing
from pathlib import Path
from typing import Any

import msgspec

SPEC = Path(__file__).resolve().parents[3] / "spec/wire-protocol.md"

COLUMNS = 5
Row = tuple[str, str, str, str]
"""(position, field, type, default) as the cells say them."""

_WORDS = {bytes: "bin", str: "str", int: "int", float: "float", bool: "bool", Any: "any"}


def rows_of_struct(kind: type[msgspec.Struct]) -> list[Row]:
    hints = typing.get_type_hints(kind)
    return [
        (str(no), field.name, type_word(hints[field.name]), default_word(field))
        for no, field in enumerate(msgspec.structs.fields(kind))
    ]


def rows_of_spec() -> dict[str, list[Row]]:
    """Struct name → its table, found under the first heading that names it in backticks."""
    found: dict[str, list[Row]] = {}
    name = ""
    for line in SPEC.read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"#+ .*`(\w+)`", line):
            name = heading[1]
            found.setdefault(name, [])
        elif re.match(r"\| \d+ \|", line) and line.count("|") == COLUMNS + 1:
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            found[name].append((cells[0], cells[1].strip("`"), cells[2], cells[3]))
    return found


def type_word(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(
            "nil" if each is types.NoneType else type_word(each) for each in arguments
        )
    if origin is list or (origin is tuple and arguments[-1] is Ellipsis):
        return f"array of {type_word(arguments[0])}"
    if origin is tuple:
        return f"[{', '.join(type_word(each) for each in arguments)}]"
    if origin is dict:
        return f"map of {type_word(arguments[0])} to {type_word(arguments[1])}"
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return f"`{hint.__name__}`"
    return _WORDS[hint]


def default_word(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = (
        field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
    )
    if isinstance(value, msgspec.Struct):
        return "its defaults"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "nil"
    if isinstance(value, (str, bytes, tuple, list, dict)) and not value:
        return "empty"
    return f"`{value}`" if isinstance(value, str) else str(value)
