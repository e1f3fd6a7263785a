"""What the command line's end-to-end tests share: a real server, and commands run on it.

Commands run in the test's own process, which costs a tenth of a new one; a `Program` is
`headrace …` as a user starts it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.cli.main import main

DEADLINE_S = 30
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}


@dataclass
class Ran:
    """A command that has ended."""

    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def headrace(*arguments: object, url: object = None, typed: str = "") -> Ran:
    """The command, here and now."""
    given = [str(argument) for argument in arguments]
    if url is not None:
        given += ["--url", str(url)]
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        _standard_input(typed),
    ):
        exit_code = main(given)
    return Ran(exit_code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _standard_input(typed: str) -> Iterator[None]:
    before = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(typed.encode()))
    try:
        yield
    finally:
        sys.stdin = before


class Program:
    """`headrace …` in a process of its own; killed at the end of the block if it is still there."""

    def __init__(self, *arguments: object, directory: Path | None = None, **environ: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "headrace.cli.main", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=directory,
            env={**ENVIRON, **environ},
            text=True,
        )
        self.lines: list[str] = []
        """Of standard output, as far as they were read."""
        self.err = ""
        self._reader = threading.Thread(target=self._read_err, daemon=True)
        self._reader.start()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def until(self, wanted: str) -> str:
        """The first line of standard output that begins so."""
        assert self.process.stdout is not None
        giving_up = threading.Timer(DEADLINE_S, self.process.kill)
        giving_up.start()
        try:
            for line in self.process.stdout:
                self.lines.append(line.rstrip("\n"))
                if line.startswith(wanted):
                    return self.lines[-1]
        finally:
            giving_up.cancel()
        self._reader.join()
        raise AssertionError(f"{wanted!r} never came: {self.lines} {self.err}")

    def ended(self) -> int:
        """Its exit code."""
        code = self.process.wait(DEADLINE_S)
        self._reader.join()
        return code

    def _read_err(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                self.err += line


@contextlib.contextmanager
def serving(directory: Path, *arguments: object) -> Iterator[Program]:
    """`headrace serve`, on a port that nobody else has."""
    with Program("serve", directory, "--listen", "127.0.0.1:0", *arguments) as server:
        server.until("ready")
        yield server
