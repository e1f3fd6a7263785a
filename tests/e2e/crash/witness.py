"""What members called, what they were answered, and what reached them, for the checkers.

Beside the journal, since it is much more. One file for all processes, one `write` a testimony,
with the monotonic time that processes of one machine share. A testimony begins with the end of
a line: what a kill cut short spoils no other, and nobody had acted on it yet.
"""

from __future__ import annotations

import base64
import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from headrace.model import commands
from headrace.model.commands import Command
from headrace.model.errors import HeadraceError
from headrace.model.handshake import ErrorFrame
from headrace.model.replies import Reply
from headrace.protocol.error_frames import from_frame, to_frame
from headrace.sim.history import HandlerBegan, HandlerEnded, PushedLease

TOLD = (
    commands.Enqueue,
    commands.Cancel,
    commands.Ack,
    commands.Nack,
    commands.Release,
    commands.Started,
)
"""What decides about jobs; of the rest nothing is asked."""


class Called(msgspec.Struct, frozen=True):
    """Number: of this process; it is about to call, or to send."""

    actor: str
    number: int
    at_ns: int
    command: Command


class Returned(msgspec.Struct, frozen=True):
    actor: str
    number: int
    at_ns: int
    reply: Reply | None
    refusal: ErrorFrame | None

    @property
    def error(self) -> HeadraceError | None:
        return None if self.refusal is None else from_frame(self.refusal)


Testimony = Called | Returned | PushedLease | HandlerBegan | HandlerEnded


class Witness:
    """Of one process, for any of its threads."""

    def __init__(self, journal: str | Path) -> None:
        self.actor = f"process {os.getpid()}"
        self._fd = os.open(path_of(journal), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._calls = 0

    def called(self, command: Command) -> int:
        """The number of the call, for its return."""
        self._calls += 1
        self._tell(Called(self.actor, self._calls, time.monotonic_ns(), command))
        return self._calls

    def returned(self, number: int, reply: Reply | None, error: BaseException | None) -> None:
        """Nothing is said of an end that is none: the caller gave up."""
        refusal = to_frame(error) if isinstance(error, HeadraceError) else None
        if reply is not None or refusal is not None:
            self._tell(Returned(self.actor, number, time.monotonic_ns(), reply, refusal))

    def pushed(self, job_id: bytes, token: int) -> None:
        self._tell(PushedLease(time.monotonic_ns(), self.actor, job_id, token))

    def began(self, job_id: bytes, token: int, attempt: int) -> None:
        self._tell(HandlerBegan(time.monotonic_ns(), self.actor, job_id, token, attempt))

    def ended(self, job_id: bytes, token: int) -> None:
        self._tell(HandlerEnded(time.monotonic_ns(), self.actor, job_id, token))

    def _tell(self, testimony: Testimony) -> None:
        os.write(self._fd, b"\n" + base64.b64encode(pickle.dumps(testimony)))


def path_of(journal: str | Path) -> Path:
    return Path(f"{journal}.calls")


def testimonies(journal: str | Path) -> Iterator[Testimony]:
    """In the order in which they were written."""
    path = path_of(journal)
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        found: Any = _whole(line)
        if found is not None:
            yield found


def _whole(line: bytes) -> Any:
    """None for a line that a kill cut short."""
    try:
        return pickle.loads(base64.b64decode(line, validate=True)) if line else None
    except (ValueError, EOFError, pickle.UnpicklingError):
        return None
