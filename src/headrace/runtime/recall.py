"""Jobs back from a busy worker when another one idles.

A worker holds more than it runs (prefetch). When nothing is ready for an idle session
while another holds unstarted jobs that it could run, the busy one is asked to give some
of them back. It releases what it has not started; the rest is as before.

Must never take a lease away: a recall is a request, and only jobs that have been
reserved for RECALL_AFTER_MS are asked for. Looks at nothing while fewer than two
sessions are connected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from headrace.engine.engine import Engine
from headrace.model.errors import UnknownJob
from headrace.model.limits import RECALL_JOBS_MAX
from headrace.model.pushes import RecallPushed
from headrace.model.replies import SessionView
from headrace.runtime.leases import Lease, LeaseWatch
from headrace.runtime.sessions import Sessions


class Recall:
    """Looks once every RECALL_AFTER_MS while the node asks it to."""

    def __init__(self, engine: Engine, leases: LeaseWatch, sessions: Sessions) -> None:
        self._engine = engine
        self._leases = leases
        self._sessions = sessions
        self._reserved: dict[bytes, set[Lease]] = {}
        """Per busy session, what was reserved at the last look."""

    def look(self, list_sessions: Callable[[], Iterable[SessionView]]) -> bool:
        """Busy sessions with jobs for idle ones have been asked; False: nothing to look at."""
        views = [view for view in list_sessions() if view.connected]
        busy = [view for view in views if view.leased > view.running and view.leased > 1]
        if len(views) < 2 or not busy:
            self._reserved = {}
            return False
        idle = [view for view in views if view.leased < view.credit and not self._fed(view)]
        before, self._reserved = self._reserved, {}
        asked = 0
        for view in busy:
            reserved = self._reserved_leases(view.session_id)
            self._reserved[view.session_id] = set(reserved)
            waiting = before.get(view.session_id, set())
            others = [other for other in idle if other.session_id != view.session_id]
            old = [lease for lease in reserved if lease in waiting]
            asked += self._ask(view, old, others, RECALL_JOBS_MAX - asked)
        return True

    def _fed(self, view: SessionView) -> bool:
        return self._engine.has_ready(view.queues, view.kinds)

    def _reserved_leases(self, session_id: bytes) -> list[Lease]:
        leases = self._leases.ended_leases(session_id)
        return [(lease.job_id, lease.token) for lease in leases if not lease.started]

    def _ask(
        self, busy: SessionView, leases: list[Lease], idle: list[SessionView], leases_max: int
    ) -> int:
        room = sum(view.credit - view.leased for view in idle)
        count = min(leases_max, room, len(leases))
        # The last ones: they are the furthest from being started.
        chosen = [lease for lease in leases[::-1][: 4 * count] if self._suits(lease[0], idle)]
        chosen = chosen[:count]
        facts = self._sessions.get(busy.session_id)
        if not chosen or facts is None or facts.peer is None:
            return 0
        facts.peer.send_push(RecallPushed(chosen))
        facts.peer.flush()
        return len(chosen)

    def _suits(self, job_id: bytes, idle: list[SessionView]) -> bool:
        try:
            job = self._engine.job_view(job_id, False)
        except UnknownJob:
            return False
        return any(job.kind in view.kinds and job.queue in view.queues for view in idle)
