"""What processes saw happen, kept where no SIGKILL of theirs can take it back.

Every process appends to one file, one `write` a line, so the order of lines is the order
in which things happened, and a line is whole or absent.

    ["asked", id]              a producer is about to enqueue it
    ["taken", id]              acknowledged
    ["unknown", id]            the answer was lost for good
    ["refused", id, code]
    ["keyed", key, id]         acknowledged: the job that answers for this key
    ["cancelled", id]          acknowledged: the job will never run
    ["announced", id, token]   a worker is about to say that it starts
    ["started", id, token, attempt]
    ["acked", id, token]       its success was taken
    ["ack_refused", id, token, code]
"""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec

from tests.e2e.crash.witness import Witness


class Journal:
    """For appending, by any process and any thread."""

    def __init__(self, path: str | Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.witness = Witness(path)

    def note(self, event: str, *fields: Any) -> None:
        os.write(self._fd, msgspec.json.encode([event, *fields]) + b"\n")


class History:
    """Everything that a journal says, by event, in order.

    The last line may still be on its way: what has no end yet is not read.
    """

    def __init__(self, path: Path) -> None:
        self._events: defaultdict[str, list[list[Any]]] = defaultdict(list)
        written = path.read_bytes()
        for line in written[: written.rfind(b"\n") + 1].splitlines():
            event, *fields = msgspec.json.decode(line)
            self._events[event].append(fields)

    def ids(self, event: str) -> set[str]:
        return {fields[0] for fields in self._events[event]}

    def leases(self, event: str) -> dict[str, list[int]]:
        """Tokens by job, in order."""
        found: defaultdict[str, list[int]] = defaultdict(list)
        for job_id, token, *_ in self._events[event]:
            found[job_id].append(token)
        return dict(found)

    def starts(self) -> dict[str, dict[int, int]]:
        """Token → attempt, by job, in order of their starts."""
        found: defaultdict[str, dict[int, int]] = defaultdict(dict)
        for job_id, token, attempt in self._events["started"]:
            found[job_id][token] = attempt
        return dict(found)

    def answers_by_key(self) -> dict[str, set[str]]:
        found: defaultdict[str, set[str]] = defaultdict(set)
        for key, job_id in self._events["keyed"]:
            found[key].add(job_id)
        return dict(found)

    def counts(self) -> dict[str, int]:
        return {event: len(fields) for event, fields in sorted(self._events.items())}
