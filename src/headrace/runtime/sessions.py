"""What the leader alone knows of sessions: their connection, and their signs of life.

None of it is recorded. After a recovery no session has a connection, and each has a
full lease before it counts as lost.

The newest connection wins: pushes go to the peer that opened or resumed the session
last. A session without a peer keeps its leases and gets nothing new.
"""

from __future__ import annotations

from collections.abc import Iterable

from headrace.model.commands import EndedLease, Heartbeat
from headrace.model.limits import STALLED_LAG_MS
from headrace.model.pushes import Push
from headrace.model.replies import SessionView
from headrace.runtime.peer import Peer

NS_PER_MS = 1_000_000


class SessionFacts:
    """Volatile facts of one open session."""

    __slots__ = (
        "difference",
        "expiring",
        "lease_ns",
        "loop_lag_ms",
        "peer",
        "resumed_index",
        "seen_ns",
        "session_id",
        "stuck_slots",
    )

    def __init__(self, session_id: bytes, lease_ms: int, now_ns: int) -> None:
        self.session_id = session_id
        self.lease_ns = lease_ms * NS_PER_MS
        self.seen_ns = now_ns
        """On the clock of leases (`leases.py`)."""
        self.peer: Peer | None = None
        self.resumed_index = 0
        """Pushes up to here are void: the resume has answered for their jobs."""
        self.difference: tuple[int, int] | None = None
        """What the last heartbeat's leases and ours differed by; None when they agreed."""
        self.loop_lag_ms = 0
        self.stuck_slots = 0
        self.expiring = False

    def note(self, beat: Heartbeat, now_ns: int) -> None:
        self.seen_ns = now_ns
        self.loop_lag_ms = beat.loop_lag_ms
        self.stuck_slots = beat.stuck_slots

    def must_reconcile(self, beat: Heartbeat, held: list[EndedLease]) -> bool:
        """Count and digest differ from ours, by the same difference twice running.

        Leases on their way in either direction differ too, but never twice alike: while
        jobs flow, a bare mismatch would send every busy worker into a resume.
        """
        if beat.held_count < 0:
            return False
        difference = (beat.held_count - len(held), beat.held_digest ^ digest_of(held))
        repeated = difference == self.difference
        self.difference = None if repeated or difference == (0, 0) else difference
        return repeated

    def show(self, view: SessionView, now_ns: int) -> None:
        """`view` has the fields that only the leader knows."""
        view.last_seen_ms = (now_ns - self.seen_ns) // NS_PER_MS
        view.loop_lag_ms = self.loop_lag_ms
        view.stalled = self.loop_lag_ms >= STALLED_LAG_MS
        view.stuck_slots = self.stuck_slots


def digest_of(leases: Iterable[EndedLease]) -> int:
    """XOR over the leases of (first 8 bytes of the id, big-endian) XOR token."""
    digest = 0
    for lease in leases:
        digest ^= int.from_bytes(lease.job_id[:8], "big") ^ lease.token
    return digest


class Sessions:
    """The open sessions, and which peer is primary for which."""

    def __init__(self) -> None:
        self._facts: dict[bytes, SessionFacts] = {}
        self._of_peer: dict[Peer, dict[bytes, None]] = {}

    def get(self, session_id: bytes) -> SessionFacts | None:
        return self._facts.get(session_id)

    def open(self, session_id: bytes, lease_ms: int, now_ns: int) -> SessionFacts:
        """The facts of this session, fresh ones when it was not known."""
        facts = self._facts.get(session_id)
        if facts is None:
            facts = self._facts[session_id] = SessionFacts(session_id, lease_ms, now_ns)
        facts.lease_ns = lease_ms * NS_PER_MS
        facts.seen_ns = now_ns
        return facts

    def renew_all(self, now_ns: int) -> None:
        for facts in self._facts.values():
            facts.seen_ns = now_ns

    def connect(self, session_id: bytes, peer: Peer) -> None:
        """`peer` is primary from here on."""
        facts = self._facts[session_id]
        self._unlink(facts)
        facts.peer = peer
        self._of_peer.setdefault(peer, {})[session_id] = None

    def disconnect(self, peer: Peer) -> list[bytes]:
        """The sessions that have lost their primary peer with `peer`."""
        lost = list(self._of_peer.pop(peer, ()))
        for session_id in lost:
            self._facts[session_id].peer = None
        return lost

    def end(self, session_id: bytes) -> None:
        facts = self._facts.pop(session_id, None)
        if facts is not None:
            self._unlink(facts)

    def push(self, session_id: bytes, push: Push, index: int) -> Peer | None:
        """The peer that was told; None when there is none, or a resume made `push` void."""
        facts = self._facts.get(session_id)
        if facts is None or facts.peer is None or index <= facts.resumed_index:
            return None
        facts.peer.send_push(push)
        return facts.peer

    def connected_count(self) -> int:
        return sum(len(sessions) for sessions in self._of_peer.values())

    def peers(self) -> list[Peer]:
        """Primary peers, each once."""
        return list(self._of_peer)

    def _unlink(self, facts: SessionFacts) -> None:
        if facts.peer is None:
            return
        sessions = self._of_peer[facts.peer]
        del sessions[facts.session_id]
        if not sessions:
            del self._of_peer[facts.peer]
        facts.peer = None
