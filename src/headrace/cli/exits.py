"""From an error to the exit code and the words with which the program ends: all of it, here.

A person who made a mistake gets a sentence, never a traceback. A bug gets one sentence
too, and says where its traceback was written.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback

from headrace.cli.text import printable
from headrace.model import errors

OK = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
CANNOT_CONNECT = 4
UNKNOWN = 5
BUG = 70
IO = 74
LOCKED = 75
DATA = 78
INTERRUPTED = 130


class UsageFault(errors.HeadraceError):
    """The command cannot be run as it was typed."""

    code = "usage"


class NotConfirmed(errors.HeadraceError):
    """The person said no; nothing was done."""

    code = "not_confirmed"


class Ended(Exception):
    """Everything was said already; the program ends with this code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


CODES: tuple[tuple[type[BaseException], int], ...] = (
    (UsageFault, USAGE),
    (errors.BadSettings, USAGE),
    (errors.UnknownJob, NOT_FOUND),
    (errors.UnknownQueue, NOT_FOUND),
    (errors.UnknownSession, NOT_FOUND),
    (errors.CannotConnect, CANNOT_CONNECT),
    (errors.OwnerUnresponsive, CANNOT_CONNECT),
    (errors.OutcomeUnknown, UNKNOWN),
    (errors.Internal, BUG),
    (errors.InvariantViolated, BUG),
    (errors.HeadraceError, FAILED),
    (KeyboardInterrupt, INTERRUPTED),
    (OSError, IO),
)
"""The first class that fits decides; what fits none is a bug."""


def exit_code_of(error: BaseException) -> int:
    if isinstance(error, (Ended, errors.StopError)):
        return error.exit_code
    if _is_of_the_log(error):
        return IO
    return next((code for kind, code in CODES if isinstance(error, kind)), BUG)


def _is_of_the_log(error: BaseException) -> bool:
    if not isinstance(error, errors.HeadraceError):
        return False
    from headrace.log.base import LogError

    return isinstance(error, LogError)


def end(error: BaseException, *, debug: bool = False) -> int:
    """The error is told on standard error; returns the exit code."""
    code = exit_code_of(error)
    if isinstance(error, BrokenPipeError):
        return _end_quietly()
    if isinstance(error, (Ended, KeyboardInterrupt)):
        return code
    if debug:
        traceback.print_exception(error)
    elif code == BUG:
        say(f"this is a bug in headrace: {type(error).__name__}: {error}")
        say(f"{_written(error)} Please report it.")
    else:
        for line in sentences(error):
            say(line)
    return code


def sentences(error: BaseException) -> list[str]:
    if isinstance(error, errors.BadSettings):
        return list(error.faults)
    if _is_of_the_log(error) and isinstance(error.__cause__, errors.StopError):
        return [str(error.__cause__)]  # with the stop code that operators search for
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return [f"{where}{error.strerror or error}."]
    return [str(error)]


def say(sentence: str) -> None:
    """On standard error, under the program's name."""
    print(f"headrace: {printable(sentence)}", file=sys.stderr)


def _written(error: BaseException) -> str:
    """The traceback is in a file that only this user can read; says where."""
    import tempfile

    with contextlib.suppress(OSError):
        descriptor, path = tempfile.mkstemp(prefix="headrace-bug-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            traceback.print_exception(error, file=file)
        return f"Its traceback is in {path} (`--debug` prints it)."
    return "`--debug` prints its traceback."


def _end_quietly() -> int:
    """The reader of our output has gone; a second failure at exit is kept from it."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED
