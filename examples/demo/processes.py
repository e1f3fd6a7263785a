"""Server and worker of the demo: real processes, started, stopped and killed from here."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

START_S = 30
STOP_S = 20
PROGRAM = "headrace: "
"""Begins every sentence that the program has for a person, between the lines of its log."""


class CouldNotStart(Exception):
    """The process ended, or was not ready in time."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code
        """Its own."""


class Process:
    """One `headrace` command that says `ready`. Its log goes to a file.

    It has a session of its own: Ctrl-C reaches the demo alone, which stops it in order.
    """

    def __init__(self, arguments: list[str], log: Path, *, directory: Path) -> None:
        self.urls: list[str] = []
        """Where it said that it listens."""
        self._command = [sys.executable, "-m", "headrace.cli.main", *arguments]
        self._log = log
        self._directory = directory
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """It is ready. Raises: `CouldNotStart` with its own words."""
        with self._log.open("w") as log:
            self._process = process = subprocess.Popen(
                self._command,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._directory,
                text=True,
                start_new_session=True,
            )
        giving_up = threading.Timer(START_S, process.kill)
        giving_up.start()
        try:
            is_ready = self._read_until_ready(process)
        finally:
            giving_up.cancel()
        if not is_ready:
            raise CouldNotStart(self._sentences(), process.wait())

    def _read_until_ready(self, process: subprocess.Popen[str]) -> bool:
        assert process.stdout is not None
        self.urls = []
        for line in process.stdout:
            if line.startswith("listening on "):
                self.urls.append(line.removeprefix("listening on ").strip())
            if line.strip() == "ready":
                return True
        return False

    def _sentences(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        said = [line.removeprefix(PROGRAM) for line in lines if line.startswith(PROGRAM)]
        return "\n".join(said) or f"no word of readiness after {START_S} s; see {self._log}"

    def kill(self) -> None:
        """SIGKILL: it has no chance to say or save anything."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """It has ended in good order, or by force when it did not in time."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
