"""Sessions: worker processes as the engine knows them."""

from __future__ import annotations

from headrace.engine.job import Job
from headrace.engine.lanes import KindLanes
from headrace.model.rows import SessionRow


class Session:
    """One worker process: what it serves, and what it holds.

    Credit and connection are volatile facts of the leader, never recorded: after a
    recovery nothing is claimed for a session before it has resumed.
    """

    __slots__ = (
        "build",
        "connected",
        "credit",
        "host",
        "kinds",
        "lease_ms",
        "leases",
        "name",
        "number",
        "opened_at_ms",
        "pid",
        "queues",
        "rotation",
        "served",
        "session_id",
        "strict",
    )

    def __init__(self, row: SessionRow) -> None:
        self.number = row.number
        self.session_id = row.session_id
        self.name = row.name
        self.host = row.host
        self.pid = row.pid
        self.build = row.build
        self.kinds = row.kinds
        self.queues = row.queues
        self.strict = row.strict
        self.lease_ms = row.lease_ms
        self.opened_at_ms = row.opened_at_ms
        self.leases: dict[bytes, Job] = {}
        self.served: list[list[KindLanes]] = []
        """Per queue, in the order listed, the lanes of its kinds."""
        self.rotation = 0
        self.credit = 0
        self.connected = False

    @property
    def room(self) -> int:
        """How many more leases it may be given now."""
        return self.credit - len(self.leases) if self.connected else 0

    def row(self) -> SessionRow:
        return SessionRow(
            self.number,
            self.session_id,
            self.name,
            self.host,
            self.pid,
            self.build,
            self.kinds,
            self.queues,
            self.strict,
            self.lease_ms,
            self.opened_at_ms,
        )
