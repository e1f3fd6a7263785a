"""Tables of a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def folded(title: str, text: str) -> str:
    """Shown when somebody asks for it."""
    return f"<details>\n<summary>{title}</summary>\n\n{text}\n\n</details>"


def of(count: int, one: str, many: str = "") -> str:
    """`1 job`, `2 jobs`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
