"""A history as a few readable lines: who asked what, what came back, what broke.

Jobs are called by the order of their first appearance (`job 3`), sessions too; times are
seconds since the life began.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from headrace.model.commands import Command, Enqueue, NewJob
from headrace.model.errors import HeadraceError
from headrace.model.job import State
from headrace.model.records import Record
from headrace.sim.history import (
    NEVER,
    Call,
    Connected,
    Event,
    HandlerBegan,
    Happened,
    History,
    PushedLease,
    Recorded,
    ToldEnd,
)

ID_BYTES = 16
TEXT_MAX = 60
NS_PER_S = 1_000_000_000


class Transcript:
    """Names the jobs and the sessions of one history."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._jobs: dict[bytes, str] = {}
        self._sessions: dict[bytes, str] = {}
        times = [call.called_ns for call in history.calls]
        times += [event.at_ns for event in history.events]
        self._began_ns = min(times, default=0)
        for call in history.calls:
            if isinstance(call.command, Enqueue):
                for job in call.command.jobs:
                    if job.job_id:
                        self.name(job.job_id)
            self._name_session(call.command)
        for event in history.events:
            if isinstance(event, Recorded):
                self._name_session(event.record)

    def name(self, job_id: bytes) -> str:
        return self._jobs.setdefault(job_id, f"job {len(self._jobs) + 1}")

    def _name_session(self, told: Command | Record) -> None:
        if session_id := getattr(told, "session_id", b""):
            self._sessions.setdefault(session_id, f"session {len(self._sessions) + 1}")

    def lines(self, about: bytes = b"") -> list[str]:
        """Everything in order; with `about`, only what names that job, and faults."""
        entries: list[tuple[int, str, set[bytes] | None]] = [
            (call.called_ns, self._call(call), self._of_call(call)) for call in self.calls
        ]
        entries += [
            (event.at_ns, self._event(event), self._of_event(event))
            for event in self._history.events
        ]
        entries.sort(key=lambda entry: entry[0])
        return [
            f"{(at_ns - self._began_ns) / NS_PER_S:10.4f} s  {line}"
            for at_ns, line, jobs in entries
            if not about or jobs is None or about in jobs
        ]

    @property
    def calls(self) -> list[Call]:
        return self._history.calls

    # --- one line each

    def _call(self, call: Call) -> str:
        asked = f"{call.actor}: {self.shown(call.command)}"
        if call.returned_ns == NEVER:
            return f"{asked} → no answer"
        took_ms = (call.returned_ns - call.called_ns) / 1_000_000
        answer = call.error.code if call.error is not None else self.shown(call.reply)
        return f"{asked} → {answer} after {took_ms:.1f} ms"

    def _event(self, event: Event) -> str:
        match event:
            case Recorded():
                return f"log {event.index}: {self.shown(event.record)}"
            case Happened():
                return f"*** {event.what} {self.shown(event.fields) if event.fields else ''}"
            case PushedLease():
                return f"{event.actor}: pushed {self.name(event.job_id)} token {event.token}"
            case Connected():
                return f"{event.actor}: connected"
            case ToldEnd():
                word = State(event.state).word
                return f"{event.actor}: told that {self.name(event.job_id)} is {word}"
            case _:
                verb = "begins" if isinstance(event, HandlerBegan) else "ends"
                return f"{event.actor}: {verb} {self.name(event.job_id)} token {event.token}"

    def shown(self, value: Any) -> str:
        """Names for ids, default fields left out."""
        if isinstance(value, bytes):
            known = self._jobs.get(value) or self._sessions.get(value)
            return known or _cut(repr(value) if value.isascii() else value.hex())
        if isinstance(value, msgspec.Struct):
            return f"{type(value).__name__}({self._fields(value)})"
        if isinstance(value, (list, tuple, set)):
            return f"[{', '.join(self.shown(item) for item in value)}]"
        if isinstance(value, dict):
            return ", ".join(f"{key}={self.shown(item)}" for key, item in value.items())
        return _cut(str(value) if isinstance(value, HeadraceError) else repr(value))

    def _fields(self, value: msgspec.Struct) -> str:
        shown = []
        for field in msgspec.structs.fields(value):
            content = getattr(value, field.name)
            if field.default is msgspec.NODEFAULT or content != field.default:
                shown.append(f"{field.name}={self.shown(content)}")
        return ", ".join(shown)

    # --- which jobs a line is about; None: everybody's concern

    def _of_call(self, call: Call) -> set[bytes]:
        return set(ids_in(call.command))

    def _of_event(self, event: Event) -> set[bytes] | None:
        if isinstance(event, Happened | Connected):
            return None
        return set(ids_in(event.record)) if isinstance(event, Recorded) else {event.job_id}


def ids_in(value: Any) -> Iterable[bytes]:
    """Every job id that a command or a record names."""
    if isinstance(value, bytes):
        if len(value) == ID_BYTES:
            yield value
    elif isinstance(value, NewJob):
        yield value.job_id
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from ids_in(getattr(value, name))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from ids_in(item)


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}…"
