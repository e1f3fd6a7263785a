"""Jobs back from a busy worker when another one idles.

A worker holds more than it runs (prefetch). When nothing is ready for an idle session
while another holds unstarted jobs that it could run, the busy one is asked to give some
of them back. It releases what it has not started; the rest is as before.

Must never take a lease away: a recall is a request, and only jobs that have been
reserved for RECALL_AFTER_MS are asked for. Walks the leases of a few sessions only, and
of none while nobody idles.
"""

from __future__ import annotations

from headrace.engine.engine import Engine
from headrace.engine.sessions import Session
from headrace.model.errors import UnknownJob
from headrace.model.limits import RECALL_JOBS_MAX, RECALL_SESSIONS_MAX
from headrace.model.pushes import RecallPushed
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

    def look(self) -> bool:
        """Busy sessions with jobs for idle ones have been asked; False: no need to look again."""
        connected = [each for each in self._engine.state.sessions.values() if each.connected]
        holding = [each for each in connected if len(each.leases) > 1]
        before, self._reserved = self._reserved, {}
        if len(connected) < 2 or not holding:
            return False
        idle = [each for each in connected if each.room > 0 and not self._is_fed(each)]
        if idle:
            self._ask_all(holding, idle, before)
        return True

    def _is_fed(self, session: Session) -> bool:
        return self._engine.has_ready(session.queues, session.kinds)

    def _ask_all(
        self, holding: list[Session], idle: list[Session], before: dict[bytes, set[Lease]]
    ) -> None:
        holding.sort(key=lambda each: len(each.leases), reverse=True)
        asked = 0
        for session in holding[:RECALL_SESSIONS_MAX]:
            session_id = session.session_id
            reserved = self._leases.reserved_of(session_id)
            self._reserved[session_id] = set(reserved)
            known = before.get(session_id, set())
            waiting = [lease for lease in reserved if lease in known]
            others = [each for each in idle if _share(session, each) > 0]
            share = sum(_share(session, each) for each in others)
            room = max(0, min(RECALL_JOBS_MAX - asked, share))
            asked += self._ask(session_id, waiting, others, room)

    def _ask(
        self, session_id: bytes, leases: list[Lease], idle: list[Session], jobs_max: int
    ) -> int:
        facts = self._sessions.get(session_id)
        if facts is None or facts.peer is None or not idle:
            return 0
        # The last ones: they are the furthest from being started.
        candidates = leases[::-1][: 4 * jobs_max]
        chosen = [lease for lease in candidates if self._suits(lease[0], idle)][:jobs_max]
        if chosen:
            facts.peer.send_push(RecallPushed(chosen))
            facts.peer.flush()
        return len(chosen)

    def _suits(self, job_id: bytes, idle: list[Session]) -> bool:
        try:
            job = self._engine.job_view(job_id, False)
        except UnknownJob:
            return False
        return any(job.kind in each.kinds and job.queue in each.queues for each in idle)


def _share(busy: Session, idle: Session) -> int:
    """How many jobs may move: half of the difference, or two workers would swap for ever."""
    return min(idle.room, (len(busy.leases) - len(idle.leases)) // 2)
