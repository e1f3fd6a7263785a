"""What is printed: tables for people, JSON for programs, and questions before harm.

Text that came from elsewhere never reaches a terminal as it is (`text.printable`).
rich is imported only when something is drawn.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from headrace.cli.exits import NotConfirmed, UsageFault
from headrace.cli.text import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

WIDTH_ELSEWHERE = 200
"""Columns where no terminal says how wide it is: ids and names stay whole."""

_STYLES = {
    "ready": "cyan",
    "scheduled": "blue",
    "blocked": "yellow",
    "reserved": "magenta",
    "running": "magenta",
    "leased": "magenta",
    "succeeded": "green",
    "dead": "red",
    "cancelled": "dim",
    "paused": "yellow",
    "stalled": "yellow",
}


def print_json(value: object) -> None:
    """One JSON document and a newline; indented on a terminal."""
    encoded = msgspec.json.encode(value)
    if sys.stdout.isatty():
        encoded = msgspec.json.format(encoded, indent=2)
    sys.stdout.write(encoded.decode() + "\n")


def print_json_line(value: object) -> None:
    """One JSON document on one line, whoever reads."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def print_line(sentence: str) -> None:
    print(printable(sentence), flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """A table, numbers to the right; the sentence `empty` when there are no rows."""
    console().print(table(columns, rows, empty))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> Table | Text:
    from rich.table import Table
    from rich.text import Text

    listed = [list(row) for row in rows]
    if not listed:
        return Text(empty)
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for position, name in enumerate(columns):
        is_number = all(isinstance(row[position], int | float) for row in listed)
        drawn.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in listed:
        drawn.add_row(*(cell(value) for value in row))
    return drawn


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Name and value, a line each; facts without a value are left out."""
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False, show_header=False)
    drawn.add_column(style="bold", no_wrap=True)
    drawn.add_column(overflow="fold")
    for name, value in facts:
        if value not in (None, "", (), []):
            drawn.add_row(name, cell(value))
    console().print(drawn)


def cell(value: object) -> Text:
    from rich.text import Text

    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, int):
        return Text(f"{value:,}")
    if isinstance(value, float):
        return Text(f"{value:,.2f}")
    shown = printable(str(value))
    return Text(shown, style=_STYLES.get(shown, ""))


def console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDTH_ELSEWHERE
    return Console(file=stream, width=width, highlight=False, soft_wrap=False)


# --- long work


class Progress(Protocol):
    def __call__(self, done: int, total: int | None = None) -> None:
        """So much is done; `total` may be known late, or never."""


@contextmanager
def progress(description: str, total: int | None = None) -> Iterator[Progress]:
    """A bar on standard error while the block runs; nothing where that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total=None: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(description, total=total)

        def advance(done: int, total: int | None = None) -> None:
            changes: dict[str, Any] = {} if total is None else {"total": total}
            bar.update(task, completed=done, **changes)

        yield advance


# --- questions


def confirm(what: str, *, yes: bool) -> None:
    """Somebody wants this. Raises: `NotConfirmed`; `UsageFault` where nobody can be asked."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageFault(f"{what}: nobody can be asked here.", hint="Add --yes to do it.")
    print(f"{printable(what)}. Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise NotConfirmed("Nothing was done.")


def confirm_by_typing(what: str, answer: str, *, given: str | None) -> None:
    """Somebody has typed `answer` back, here or as the option. Raises: as `confirm`."""
    if given is not None:
        if given != answer:
            raise UsageFault(f"{what}: the number given is {given}, not {answer}.")
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageFault(f"{what}: nobody can be asked here.", hint=f"Add --accept-loss {answer}.")
    print(f"{printable(what)}.\nType {answer} to go on: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != answer:
        raise NotConfirmed("Nothing was done.")
