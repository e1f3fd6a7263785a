"""Commands on a real terminal: questions, colours, live views, and Ctrl-C in them."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli_kit import DEADLINE_S, ENVIRON, headrace, serving

CTRL_C = b"\x03"


class Terminal:
    """A command on a pseudo terminal of its own, with a person who types."""

    def __init__(self, *arguments: object) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "headrace.cli.main", *map(str, arguments)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=make_controlling,
            env={**ENVIRON, "TERM": "xterm", "COLUMNS": "200", "LINES": "50"},
        )
        os.close(theirs)
        self.seen = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def until(self, words: str) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while words.encode() not in self.seen:
            assert self._read(deadline_s), f"{words!r} never came: {self.seen!r}"

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def ended(self) -> int:
        """Its exit code, and everything that it printed is in `seen`."""
        deadline_s = time.monotonic() + DEADLINE_S
        while self._read(deadline_s):
            pass
        return self.process.wait(DEADLINE_S)

    def _read(self, deadline_s: float) -> bool:
        ready, _, _ = select.select([self._ours], [], [], max(0, deadline_s - time.monotonic()))
        try:
            chunk = os.read(self._ours, 65_536) if ready else b""
        except OSError:  # how Linux says that the other end is closed
            chunk = b""
        self.seen += chunk
        return chunk != b""


def make_controlling() -> None:
    """So that Ctrl-C is a signal for the child."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("terminal") / "data") as server:
        yield server.lines[0].split()[-1]


def ready_in(queue: str, url: str) -> int:
    return int(headrace("queue", "show", queue, "--json", url=url).json["ready"])


def test_destructive_command_asks_and_no_is_no(url: str) -> None:
    headrace("enqueue", "k", "--queue", "asked", url=url)
    with Terminal("queue", "purge", "asked", "--state", "ready", "--url", url) as terminal:
        terminal.until("Go on? [y/N]")
        terminal.type(b"\n")
        assert terminal.ended() == 1
        assert b"Nothing was done." in terminal.seen
    assert ready_in("asked", url) == 1


def test_destructive_command_goes_on_when_the_person_says_yes(url: str) -> None:
    headrace("enqueue", "k", "--queue", "agreed", url=url)
    with Terminal("queue", "purge", "agreed", "--state", "ready", "--url", url) as terminal:
        terminal.until("All ready jobs of queue 'agreed' will be deleted for good. Go on? [y/N]")
        terminal.type(b"y\n")
        assert terminal.ended() == 0
        assert b"1 jobs deleted from agreed." in terminal.seen
    assert ready_in("agreed", url) == 0


def test_question_is_ended_by_ctrl_c(url: str) -> None:
    headrace("enqueue", "k", "--queue", "kept", url=url)
    with Terminal("queue", "purge", "kept", "--state", "ready", "--url", url) as terminal:
        terminal.until("[y/N]")
        terminal.type(CTRL_C)
        assert terminal.ended() == 130
        assert b"Traceback" not in terminal.seen
    assert ready_in("kept", url) == 1


def test_top_is_live_and_ctrl_c_is_its_ordinary_end(url: str) -> None:
    headrace("enqueue", "k", "--queue", "first-seen", url=url)
    with Terminal("top", "--interval", "100ms", "--url", url) as terminal:
        terminal.until("first-seen")
        headrace("enqueue", "k", "--queue", "seen-later", url=url)
        terminal.until("seen-later")
        terminal.until("enqueued")
        terminal.type(CTRL_C)
        assert terminal.ended() == 0
        assert b"Traceback" not in terminal.seen


def test_tables_have_colours_on_a_terminal_and_foreign_escapes_do_not_pass(url: str) -> None:
    tag = "evil\x1b]0;owned\x07"
    headrace("enqueue", "k", "--queue", "coloured", "--tag", tag, url=url)
    (view,) = headrace("job", "list", "--queue", "coloured", "--json", url=url).json["jobs"]
    with Terminal("job", "list", "--queue", "coloured", "--url", url) as terminal:
        assert terminal.ended() == 0
        assert b"\x1b[36mready" in terminal.seen
    with Terminal("job", "show", view["job_id"], "--url", url) as terminal:
        assert terminal.ended() == 0
        assert rb"evil\x1b]0;owned\x07" in terminal.seen
        assert b"\x1b]0;" not in terminal.seen


def test_repair_wants_the_number_typed_back(tmp_path: Path) -> None:
    assert headrace("enqueue", "k", url=tmp_path / "d").exit_code == 0
    (segment,) = (tmp_path / "d" / "wal").glob("*.wal")
    cut = headrace("repair", tmp_path / "d", "--truncate-at", f"{segment.name}:99")
    place = f"{segment.name}:{cut.err.split()[-1].rstrip('.')}"
    arguments = ("repair", tmp_path / "d", "--truncate-at", place)
    for typed, exit_code in ((b"7\n", 1), (b"1\n", 0)):
        with Terminal(*arguments) as terminal:
            terminal.until("Type 1 to go on:")
            terminal.type(typed)
            assert terminal.ended() == exit_code
    assert headrace("job", "list", url=tmp_path / "d").out == "No jobs.\n"


def test_backup_shows_a_bar_and_leaves_the_result(tmp_path: Path) -> None:
    assert headrace("enqueue", "k", url=tmp_path / "d").exit_code == 0
    with Terminal("backup", tmp_path / "d", tmp_path / "b") as terminal:
        assert terminal.ended() == 0
        assert b"copying" in terminal.seen
        assert b"holds everything up to index" in terminal.seen
