"""A history in lines: whoever reads it knows what is a job and what is not."""

from __future__ import annotations

from headrace.model.commands import Enqueue, Heartbeat, NewJob, OpenSession, Watch
from headrace.model.job import JobSpec
from headrace.model.records import JobsClaimed
from headrace.sim.history import History, PushedLease, Recorded
from headrace.sim.transcript import Transcript

JOB, OTHER_JOB, STRANGE = b"\x01\x9b" * 8, b"\x01\x9c" * 8, b"\x01\x9d" * 8
SESSION = b"\xaa" * 16
LATER_SESSION = b"\x02" * 16


def test_jobs_and_sessions_have_names_by_their_order_and_nothing_else_has() -> None:
    history = History()
    history.call("worker 0", OpenSession(SESSION, "w", "h", 1, "", (), (), 1), 0)
    history.call("client 0", Watch([STRANGE, JOB]), 1)
    spec = JobSpec(queue="q", kind="k")
    history.call("client 0", Enqueue([spec], [NewJob(JOB, 0, b"sixteen bytes!!!")]), 2)
    history.events.append(Recorded(3, 7, 0, JobsClaimed(LATER_SESSION, [JOB], 1_000)))
    history.events.append(PushedLease(4, "worker 0", OTHER_JOB, 7))
    history.call("worker 0", Heartbeat(SESSION, 0, 0), 5)

    opened, watched, enqueued, claimed, pushed, beat = Transcript(history).lines()

    assert "session_id=session 1" in opened
    assert f"[{STRANGE.hex()}, job 1]" in watched
    assert "job_id=job 1" in enqueued
    assert "payload=b'sixteen bytes!!!'" in enqueued
    assert "session_id=session 2, job_ids=[job 1]" in claimed
    assert "pushed job 2 token 7" in pushed
    assert "session_id=session 1" in beat


def test_job_that_the_server_is_to_name_gives_no_name_to_what_has_no_session() -> None:
    history = History()
    spec = JobSpec(queue="q", kind="k")
    history.call("client 0", Enqueue([spec], [NewJob(b"", 0, b"{}")]), 1)
    history.events.append(Recorded(2, 7, 0, JobsClaimed(b"", [JOB], 1_000)))

    assert "session_id=b''" in Transcript(history).lines()[1]
