"""`headrace`: finds the command, runs it, and turns what it raises into an exit code.

Must import nothing heavy before a command is chosen: `headrace --help` takes well under
150 ms, of which most is the interpreter.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from headrace.cli import nouns

HELP = ("-h", "--help", "help")
VERSION = ("-V", "--version")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code; see `headrace.cli.exits`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["help"] and given[1:]:
        given = [*given[1:], "--help"]
    given = _with_target_behind(given)
    if not given or given[0] in HELP:
        print(nouns.help_text())
        return 0
    if given[0] in VERSION:
        return _show_version()
    try:
        return _run(given[0], given[1:])
    except BaseException as error:
        if isinstance(error, SystemExit):
            raise
        from headrace.cli.exits import end

        return end(error, debug="--debug" in given)


def _with_target_behind(given: list[str]) -> list[str]:
    """`--url` before the command, where many programs take it, belongs to the command."""
    if given[:1] == ["--url"] and len(given) > 2:
        return [*given[2:], *given[:2]]
    if given and given[0].startswith("--url="):
        return [*given[1:], given[0]]
    return given


def _show_version() -> int:
    from headrace.model.handshake import SOFTWARE_VERSION

    print(f"headrace {SOFTWARE_VERSION}")
    return 0


def _run(name: str, arguments: list[str]) -> int:
    noun = nouns.find(name)
    if noun is None:
        return _unknown(name)
    import importlib

    from headrace.cli.application import run_noun

    exit_code = run_noun(importlib.import_module(noun.module).app, arguments)
    sys.stdout.flush()  # here a reader that has gone is still an error with an exit code
    return exit_code


def _unknown(name: str) -> int:
    import difflib

    from headrace.cli.exits import USAGE, say

    close = difflib.get_close_matches(name, nouns.names(), n=1)
    say(f"there is no command {name!r}" + (f"; did you mean {close[0]}?" if close else "."))
    say("`headrace --help` lists all commands.")
    return USAGE


if __name__ == "__main__":
    sys.exit(main())
