"""One noun of the command line as a cyclopts application, and how it is run.

All nouns are made here, so that all of them parse, refuse and print help alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from cyclopts import App, CycloptsError, Parameter

from headrace.cli.exits import UsageFault

T = TypeVar("T")


def noun(name: str, summary: str | None = None) -> App:
    """An application for `headrace NAME`; commands return None or an exit code.

    `summary` is for nouns with verbs; a noun that is a command says itself what it does.
    """
    made = App(
        name=f"headrace {name}",
        help=summary,
        default_parameter=Parameter(negative="", show_default=_shown_default),
        version_flags=[],
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    made["--help"].show = False
    return made


def _shown_default(value: Any) -> str | None:
    """Only defaults that say something: neither `False` nor an empty text."""
    return str(value) if value else None


def run_noun(app: App, arguments: list[str]) -> int:
    """Raises: `UsageFault` for what cannot be parsed; what the command raises."""
    try:
        code = app(arguments)
    except CycloptsError as error:
        command = " ".join((app.name[0], *(error.command_chain or ())))
        raise UsageFault(_sentence(error), hint=f"See `{command} --help`.") from error
    return code or 0


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """What it returns or raises, on a loop of its own; Ctrl-C cancels it."""
    from headrace.runtime.real_loops import new_event_loop

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(coroutine)


def _sentence(error: CycloptsError) -> str:
    text = str(error).strip()
    return text if text.endswith((".", "?", "!")) else f"{text}."
