"""What a checker is, and what it finds.

A checker owns one promise. It must know nothing of how the promise is kept: it may use the
values of the model and the ledger of the log, and the engine only where the engine itself is
what is compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import ClassVar

import msgspec

from headrace.model.errors import ClientError, Unavailable
from headrace.model.ids import ID_BYTES, id_to_text
from headrace.sim.checkers.asked import Asked, connections_ns
from headrace.sim.checkers.ledger import Ledger
from headrace.sim.checkers.replayed import Replayed
from headrace.sim.final import Final
from headrace.sim.history import NEVER, Call, Event, History

Evidence = Call | Event


class Violation(msgspec.Struct, frozen=True):
    """A broken promise, and the few lines of the history that show it."""

    checker: str
    message: str
    job_id: bytes = b""
    at_ns: int = NEVER
    """When it showed; `NEVER` when only the end showed it."""
    evidence: tuple[Evidence, ...] = ()

    def __str__(self) -> str:
        return f"{self.checker}: {self.message}"


class Life:
    """One history with its end; what several checkers need is worked out once."""

    def __init__(self, history: History, final: Final) -> None:
        self.history = history
        self.final = final

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.history, self.final)

    @cached_property
    def asked(self) -> Asked:
        return Asked(self.history, self.ledger)

    @cached_property
    def replayed(self) -> Replayed:
        return Replayed(self.ledger.records, self.history.calls, self.final)

    @cached_property
    def connected_ns(self) -> dict[str, list[int]]:
        """Of all who take part, as in `connections_ns`."""
        return connections_ns(self.history)


Breaches = Iterator[Violation]


class Checker:
    """Base of all. Subclasses say what they own, and yield every breach of it."""

    invariants: ClassVar[tuple[str, ...]] = ()
    """Numbers of the list of invariants, such as `I4`."""
    clauses: ClassVar[tuple[int, ...]] = ()
    """Of our contract."""
    promise: ClassVar[str] = ""
    needs_log: ClassVar[bool] = True
    """It judges records: a history without the whole log passes it by."""

    @classmethod
    def name(cls) -> str:
        return cls.__name__

    def check(self, history: History, final: Final) -> list[Violation]:
        """Every breach; empty when the promise was kept, as far as this history shows."""
        return self.judge(Life(history, final))

    def judge(self, life: Life) -> list[Violation]:
        """`check`, for one who shows the same life to several checkers."""
        if self.needs_log and not life.ledger.whole:
            return []
        return list(self.breaches(life))

    def breaches(self, life: Life) -> Breaches:
        raise NotImplementedError

    def violation(
        self, message: str, *evidence: Evidence | None, job_id: bytes = b"", at_ns: int = NEVER
    ) -> Violation:
        """`message` is told of `job_id`, when there is one; the newest evidence says when."""
        shown = tuple(one for one in evidence if one is not None)
        if at_ns == NEVER:
            at_ns = max((_time_of(one) for one in shown), default=NEVER)
        told = f"{name_of(job_id)}: {message}" if job_id else message
        return Violation(self.name(), told, job_id, at_ns, shown)


def _time_of(evidence: Evidence) -> int:
    return evidence.returned_ns if isinstance(evidence, Call) else evidence.at_ns


def name_of(job_id: bytes) -> str:
    return id_to_text(job_id) if len(job_id) == ID_BYTES else job_id.hex()


def is_refused(call: Call) -> bool:
    """Certainly nothing happened."""
    return isinstance(call.error, ClientError | Unavailable)
