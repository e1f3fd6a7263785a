"""The field tables of a document, as the structs would have them."""

from __future__ import annotations

import re
from pathlib import Path

from tests.unit.codec.wire_spec import COLUMNS, Row


def tables_of(path: Path) -> dict[str, list[Row]]:
    """Struct name → its table, found under the first heading that names it in backticks."""
    found: dict[str, list[Row]] = {}
    name = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"#+ .*`(\w+)`", line):
            name = heading[1]
            found.setdefault(name, [])
        elif re.match(r"\| \d+ \|", line) and line.count("|") == COLUMNS + 1 and name:
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            found[name].append((cells[0], cells[1].strip("`"), cells[2], cells[3]))
    return found
