"""Deciding about sessions: open, credit, resume, close."""

from __future__ import annotations

from headrace.engine.job import FLAG_CANCEL_REQUESTED, FLAG_STARTED
from headrace.engine.leasing import EXPIRED_WORKER_LOST, confirm_cancel, expire
from headrace.engine.sessions import Session
from headrace.engine.state import EngineState
from headrace.engine.turn import Turn
from headrace.engine.validate import check_range
from headrace.model import limits
from headrace.model.commands import (
    CloseSession,
    EndedLease,
    Expire,
    OpenSession,
    ResumeSession,
    SetCredit,
)
from headrace.model.effects import SessionEnded
from headrace.model.errors import BadRequest, LimitReached, UnknownSession
from headrace.model.names import check_name
from headrace.model.records import (
    JobReleased,
    JobsReleased,
    SessionClosed,
    SessionOpened,
)
from headrace.model.replies import (
    VERDICT_CANCEL,
    VERDICT_DROP,
    VERDICT_KEEP,
    Done,
    SessionOpen,
    SessionResumed,
)

_TEXT_MAX = limits.NAME_BYTES_MAX


def find_session(turn: Turn, session_id: bytes) -> Session:
    """Raises: `UnknownSession`."""
    session = turn.state.sessions.get(session_id)
    if session is None:
        raise UnknownSession(
            f"No session {session_id.hex() or '(empty)'} is open.",
            hint="Its heartbeats stayed away for longer than its lease; open a new one.",
        )
    return session


def open_session(turn: Turn, command: OpenSession, seed: int) -> SessionOpen:
    """The session is known and may be given jobs; opening it again is harmless."""
    _check(command)
    session = turn.state.sessions.get(command.session_id)
    if session is None:
        _check_room(turn.state, command)
        turn.emit(
            SessionOpened(
                command.session_id,
                command.name[:_TEXT_MAX],
                command.host[:_TEXT_MAX],
                command.pid,
                command.build[:_TEXT_MAX],
                command.kinds,
                command.queues,
                command.strict,
                command.lease_ms,
            )
        )
        session = turn.state.sessions[command.session_id]
    give_credit(turn, session, command.credit)
    return SessionOpen(
        session_id=command.session_id,
        lease_ms=session.lease_ms,
        heartbeat_ms=session.lease_ms // limits.HEARTBEATS_PER_LEASE,
    )


def _check(command: OpenSession) -> None:
    if len(command.session_id) != 16:
        raise BadRequest(f"A session id has {len(command.session_id)} bytes; 16 are needed.")
    check_range("kinds of a session", len(command.kinds), 1, limits.KINDS_PER_SESSION_MAX)
    check_range("queues of a session", len(command.queues), 1, limits.QUEUES_PER_SESSION_MAX)
    pairs = len(command.kinds) * len(command.queues)
    check_range("queues × kinds of a session", pairs, 1, limits.SPECS_MAX // 10)
    if len(set(command.kinds)) != len(command.kinds):
        raise BadRequest("A session names a kind twice.")
    if len(set(command.queues)) != len(command.queues):
        raise BadRequest("A session names a queue twice.")
    for kind in command.kinds:
        check_name("kind", kind)
    for queue in command.queues:
        check_name("queue", queue)
    check_range("credit", command.credit, 0, limits.SESSION_CREDIT_MAX)
    check_range("lease_ms", command.lease_ms, limits.LEASE_MS_MIN, limits.LEASE_MS_MAX)


def _check_room(state: EngineState, command: OpenSession) -> None:
    """Raises: `LimitReached`. A session that is open already needs no room."""
    if len(state.sessions) >= limits.SESSIONS_MAX:
        raise LimitReached(f"{limits.SESSIONS_MAX} sessions are open already.")
    new = [queue for queue in command.queues if queue not in state.queues]
    if len(state.queues) + len(new) > limits.QUEUES_MAX:
        raise LimitReached(f"There are {limits.QUEUES_MAX} queues already.")
    if len(state.lanes) + len(command.queues) * len(command.kinds) > limits.LANES_MAX:
        raise LimitReached(
            f"There are {len(state.lanes)} combinations of queue and kind already; "
            f"{limits.LANES_MAX} are allowed.",
            hint="Serve fewer queues or kinds with one session.",
        )


def give_credit(turn: Turn, session: Session, credit: int) -> None:
    """It may hold so many leases at a time. Volatile: nothing is emitted."""
    session.credit = credit
    session.connected = True
    turn.state.hungry[session.number] = session


def set_credit(turn: Turn, command: SetCredit, seed: int) -> Done:
    check_range("credit", command.credit, 0, limits.SESSION_CREDIT_MAX)
    give_credit(turn, find_session(turn, command.session_id), command.credit)
    return Done()


def resume_session(turn: Turn, command: ResumeSession, seed: int) -> SessionResumed:
    """Both sides agree again: a verdict for each lease that the worker names.

    Leases that the worker does not know (a push that got lost) go back uncharged.
    """
    session = find_session(turn, command.session_id)
    check_range("credit", command.credit, 0, limits.SESSION_CREDIT_MAX)
    # Beside its credit a worker may hold what it has settled and had no answer for.
    check_range("leases held", len(command.held), 0, 2 * limits.SESSION_CREDIT_MAX)
    verdicts = [_verdict(turn, session, held.job_id, held.token) for held in command.held]
    known = {(held.job_id, held.token) for held in command.held}
    _give_back(turn, session, known)
    give_credit(turn, session, command.credit)
    return SessionResumed(verdicts=verdicts)


def _verdict(turn: Turn, session: Session, job_id: bytes, token: int) -> int:
    job = session.leases.get(job_id)
    if job is None or job.token != token:
        return VERDICT_DROP
    return VERDICT_CANCEL if job.flags & FLAG_CANCEL_REQUESTED else VERDICT_KEEP


def _give_back(turn: Turn, session: Session, known: set[tuple[bytes, int]]) -> None:
    """Leases beside these wait again; those asked to stop are cancelled."""
    lost = [job for job in session.leases.values() if (job.job_id, job.token) not in known]
    released: list[JobReleased] = []
    for job in lost:
        if job.flags & FLAG_CANCEL_REQUESTED:
            confirm_cancel(turn, job)
        else:
            released.append(JobReleased(job.job_id, job.token))
    if released:
        turn.emit(JobsReleased(released))


def close_session(turn: Turn, command: CloseSession, seed: int) -> Done:
    """The session is gone. What it had not started goes back, what it ran counts as lost."""
    session = find_session(turn, command.session_id)
    started = [job for job in session.leases.values() if job.flags & FLAG_STARTED]
    if started:
        leases = [EndedLease(job.job_id, job.token, True) for job in started]
        expire(turn, Expire(leases, EXPIRED_WORKER_LOST), seed)
    _give_back(turn, session, set())
    turn.emit(SessionClosed(command.session_id, command.reason[:_TEXT_MAX]))
    turn.effects.append(SessionEnded(command.session_id))
    return Done()
