"""The turn under way: its time, and what has been emitted and owed in it."""

from __future__ import annotations

from headrace.engine.evolve import evolve
from headrace.engine.finished import unpack
from headrace.engine.job import LEASED, Job
from headrace.engine.remembered import Remembrance
from headrace.engine.state import EngineState
from headrace.model.effects import Effect
from headrace.model.errors import BadRequest, ClientError, StaleLease, UnknownJob
from headrace.model.ids import ID_BYTES, id_to_text
from headrace.model.records import Record, TimePassed


class Turn:
    """What commands decide with: the state, the time of the turn, and `emit`."""

    __slots__ = ("effects", "now_ms", "records", "state")

    def __init__(self, state: EngineState) -> None:
        self.state = state
        self.now_ms = state.now_ms
        """Log time of this turn; the state's own follows with the first record."""
        self.records: list[Record] = []
        self.effects: list[Effect] = []

    def emit(self, record: Record) -> None:
        """`record` has happened: the state shows it, and the turn's commit will hold it.

        Every refusal comes before the first emit of its command; there is no way back.
        """
        state = self.state
        if state.now_ms != self.now_ms:
            passed = TimePassed(self.now_ms)
            evolve(state, state.index + 1, passed)
            self.records.append(passed)
        evolve(state, state.index + 1, record)
        self.records.append(record)

    def emit_time(self, record: TimePassed) -> None:
        """Time passed, and jobs became due with it."""
        evolve(self.state, self.state.index + 1, record)
        self.records.append(record)

    def live(self, job_id: bytes) -> Job | None:
        """The job of that id unless it is final or unknown."""
        return self.state.jobs.get(job_id) if job_id else None

    def remembered(self, job_id: bytes) -> Remembrance | None:
        """What is known of a job that has ended: for as long as it is kept, and a while more."""
        if len(job_id) != ID_BYTES:
            return None
        packed = self.state.ended.get(job_id)
        if packed is None:
            return self.state.remembered.get(job_id)
        finished = unpack(packed)
        return Remembrance(finished.token, finished.state)

    def held(self, job_id: bytes, token: int) -> Job | None:
        """The job, if exactly this lease of it is live."""
        job = self.live(job_id)
        return job if job is not None and job.state == LEASED and job.token == token else None


def unknown_job(job_id: bytes) -> ClientError:
    if len(job_id) != ID_BYTES:
        return BadRequest(f"A job id has {ID_BYTES} bytes, not {len(job_id)}.")
    return UnknownJob(
        f"No job has the id {id_to_text(job_id)}.",
        hint="It was never enqueued, or retention has removed it.",
    )


def stale_lease(job_id: bytes, token: int) -> StaleLease:
    return StaleLease(
        f"Lease {token} of job {id_to_text(job_id)} has ended.",
        hint="Drop the job; somebody else decides about it now.",
    )
