"""Real processes that a test starts, kills and starts again."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.e2e.crash.member import Part

ROOT = Path(__file__).resolve().parents[3]
START_S = 60
CliRan = subprocess.CompletedProcess[str]
CLI = "import sys; from headrace.cli.main import main; sys.exit(main())"


class Child:
    """A process whose standard output says `ready`, and whose errors go to a file."""

    def __init__(self, command: list[str], errors: Path, **environ: str) -> None:
        self.errors = errors
        with errors.open("ab") as file:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=file,
                cwd=ROOT,
                env={**os.environ, **environ},
                start_new_session=True,
            )
        self.lines: list[str] = []

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_ready(self) -> Child:
        """It said `ready`, now or before. Fails when it ends before, or takes too long."""
        if self.lines:
            return self
        assert self.process.stdout is not None
        stream, deadline_s, text = self.process.stdout, time.monotonic() + START_S, b""
        while b"ready\n" not in text:
            left_s = deadline_s - time.monotonic()
            assert left_s > 0, f"not ready in time: {self.last_words()}"
            if select.select([stream], [], [], left_s)[0]:
                some = os.read(stream.fileno(), 65536)
                assert some, f"ended with {self.process.wait()}: {self.last_words()}"
                text += some
        self.lines = text.decode().splitlines()
        return self

    def comes_up(self) -> bool:
        """It is ready, or has ended before. Fails when neither happens in time."""
        try:
            self.wait_ready()
        except AssertionError:
            self.process.wait(START_S)
            return False
        return True

    def wait_for_event(self, event: str) -> None:
        """Its log tells of it."""
        deadline_s = time.monotonic() + START_S
        while event not in self.last_words():
            assert time.monotonic() < deadline_s, f"{event} never came: {self.last_words()}"
            threading.Event().wait(0.01)

    def send(self, number: signal.Signals) -> None:
        """To it, and to what it runs in turn (strace does not pass a SIGKILL on)."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """Its exit code after SIGTERM."""
        return self._end(signal.SIGTERM)

    def exit_code(self, timeout_s: float = START_S) -> int:
        """It has ended by itself."""
        code = self.process.wait(timeout_s)
        self._close()
        return code

    def last_words(self) -> str:
        return self.errors.read_text(errors="replace")[-4_000:]

    def _end(self, number: signal.Signals) -> int:
        self.send(number)
        try:
            return self.process.wait(START_S)
        finally:
            self.send(signal.SIGKILL)
            self.process.wait()
            self._close()

    def _close(self) -> None:
        if self.process.stdout is not None:
            self.process.stdout.close()


class Server:
    """`headrace serve` on a directory, at a port that stays the same over restarts."""

    def __init__(self, directory: Path, logs: Path, **environ: str) -> None:
        self.wrapper: list[str] = []
        """A command that runs the server, such as strace."""
        self.directory = directory
        self._errors = logs / "server.log"
        self._environ = environ
        self._listen = "127.0.0.1:0"
        self._child: Child | None = None

    @property
    def url(self) -> str:
        return f"headrace://{self._listen}"

    @property
    def child(self) -> Child:
        assert self._child is not None
        return self._child

    def rival(self, errors: Path) -> Server:
        """Another one for the same directory at the same address; not started."""
        twin = Server(self.directory, errors.parent, **self._environ)
        twin._errors, twin._listen = errors, self._listen
        return twin

    def start(self) -> Child:
        """It takes calls."""
        return self.adopt(self.begin().wait_ready())

    def adopt(self, child: Child) -> Child:
        """It is ready, and said where."""
        [url] = [line for line in child.lines if "headrace://" in line]
        self._listen = url.split("headrace://")[1]
        return child

    def begin(self) -> Child:
        """It is starting."""
        command = [*self.wrapper, sys.executable, "-c", CLI, "serve", str(self.directory)]
        self._child = Child([*command, "--listen", self._listen], self._errors, **self._environ)
        return self._child


class Members:
    """The producing and working processes of a test, by name."""

    def __init__(self, part: Part, logs: Path) -> None:
        self._part = part
        self._logs = logs
        self._seed = part.seed
        self.children: dict[str, Child] = {}

    def begin(
        self,
        name: str,
        *,
        works: bool = False,
        produces: bool = False,
        wrapper: Sequence[str] = (),
    ) -> Child:
        """It is starting; every life of it has a seed of its own."""
        self._seed += 1
        part = msgspec.structs.replace(self._part, seed=self._seed, works=works, produces=produces)
        told = msgspec.json.encode(part).decode()
        command = [*wrapper, sys.executable, "-m", "tests.e2e.crash.member", told]
        child = Child(command, self._logs / f"{name}.log", PYTHONPATH=f"{ROOT}/src:{ROOT}")
        self.children[name] = child
        return child

    def aim_at(self, target: str) -> None:
        """Those that begin from here on."""
        self._part = msgspec.structs.replace(self._part, target=target)

    def kill(self, name: str) -> None:
        self.children.pop(name).kill()

    def terminate(self, name: str) -> None:
        child = self.children.pop(name)
        code = child.terminate()
        assert code == 0, f"{name} ended with {code}: {child.last_words()}"

    def terminate_together(self, names: Sequence[str]) -> None:
        """Each is asked once: a second time would hurry it, or kill it at its very end."""
        for name in names:
            self.children[name].send(signal.SIGTERM)
        for name in names:
            child = self.children[name]
            code = child.exit_code()
            assert code == 0, f"{name} ended with {code}: {child.last_words()}"
            del self.children[name]

    def kill_all(self) -> None:
        for child in self.children.values():
            child.kill()
        self.children.clear()


def run_cli(*arguments: str, timeout_s: float = 60, **environ: str) -> CliRan:
    """What `headrace ARGUMENTS` did."""
    return subprocess.run(
        [sys.executable, "-c", CLI, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env={**os.environ, **environ},
    )
