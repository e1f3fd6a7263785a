"""How a life ended: what is asked of the node once everything is over, for the checkers.

Whoever judges less than a simulated life (a directory after real crashes, say) fills in what
it knows; a checker passes over what is not there, and says so in `Judgement.passed_over`.
"""

from __future__ import annotations

import msgspec

from headrace.codec import messages
from headrace.engine.engine import Lease
from headrace.model.commands import Heartbeat
from headrace.model.options import EngineOptions
from headrace.model.replies import JobView, SessionView
from headrace.sim.history import NEVER, Recorded

UNANSWERED = frozenset(kind.__name__ for kind in (*messages.UNANSWERED, Heartbeat))
"""Commands that nobody sees answered, and that are therefore no calls of a history."""


class SnapshotFacts(msgspec.Struct, frozen=True):
    """One published snapshot, loaded into an engine of its own."""

    index: int
    digest: str
    """Of the state in it."""
    digest_at_end: str = ""
    """After all records behind it; `` when nobody looked."""


class Recovery(msgspec.Struct, frozen=True):
    """One start of a node on what a log held."""

    at_ns: int
    snapshot_index: int
    """0: without a snapshot."""
    record_count: int
    """Records replayed behind it."""
    last_index: int
    """Of the log, as it was found."""


class Checkup(msgspec.Struct, frozen=True):
    """What `doctor`, `verify` or a start said of a directory."""

    at_ns: int
    what: str
    complaints: list[str] = []
    expected: list[str] = []
    """What it had to say, since a fault was put there; in any order."""


class Final(msgspec.Struct, kw_only=True):
    """The end of a life. Every field may be left out."""

    at_ns: int = NEVER
    """Of the simulation's monotonic time."""
    log_now_ms: int = 0
    healed_ms: int = NEVER
    """How long ago the last fault was over; `NEVER`: progress is not judged."""
    gone_actors: frozenset[str] = frozenset()
    """They died or were ended: their calls may stay open."""
    born_ns: dict[str, int] = {}
    """When the last process of an actor began: what it asked before died with the one before."""
    unseen: frozenset[str] = UNANSWERED
    """Names of commands whose calls are not part of the history."""
    all_ids_asked: bool = True
    """Every enqueue that anybody made is a call of the history."""

    records: list[Recorded] = []
    """The log as it is now, from the oldest record that it keeps."""
    log_faults: list[str] = []
    """What was seen of the log that no log may do."""

    jobs: dict[bytes, JobView] | None = None
    """What `GetJob` says of every id there is; an id that is missing is unknown. None: nobody
    asked."""
    leases: list[Lease] | None = None
    """Live ones."""
    sessions: list[SessionView] = []
    gauges: dict[str, float] = {}
    options: EngineOptions = EngineOptions()
    """Of the engine that ran last."""

    live_digest: str = ""
    """`Engine.digest` of the node, at the end of its log."""
    live_fault: str = ""
    """What `Engine.check_state` of the node complains of."""
    snapshots: list[SnapshotFacts] = []
    recoveries: list[Recovery] = []
    checkups: list[Checkup] = []
