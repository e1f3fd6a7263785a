"""State and disk: replay, snapshots, readers, durability, bounds and checkups."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from headrace.model import records as r
from headrace.model.commands import (
    Enqueue,
    GetJob,
    GetQueue,
    ListJobs,
    ListQueues,
    LogLines,
    Progress,
)
from headrace.model.errors import UnknownJob
from headrace.model.options import EngineOptions
from headrace.model.queue import QueueSettings
from headrace.model.replies import JobReply, JobView
from headrace.sim.final import Checkup, Recovery, SnapshotFacts
from headrace.sim.history import Happened, Recorded
from tests.unit.sim.telling import Telling, complaints, drop, insert, last_call, records_of


def lived() -> Telling:
    story = Telling()
    story.enqueue(2, payload=b"[1]")
    lease = story.claim_one()
    story.ack(lease)
    story.job(lease[0])
    return story


# --- OneState


def test_live_state_that_replay_does_not_give_is_seen() -> None:
    story = lived()

    assert complaints("OneState", story) == []

    drop(story, r.JobsSucceeded)

    assert "not what replay gives" in complaints("OneState", story)[0]


def test_a_log_that_cannot_be_replayed_is_seen() -> None:
    story = lived()
    drop(story, r.JobsEnqueued)

    assert "replay fails at index" in complaints("OneState", story)[0]


def test_a_live_state_that_is_not_sound_is_seen() -> None:
    assert "not sound: why" in complaints("OneState", lived(), live_fault="why")[0]


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (SnapshotFacts(2, "0" * 32), "of index 2 differs from replay"),
        (SnapshotFacts(900, "0" * 32), "which is not in the log"),
    ],
)
def test_a_snapshot_of_another_state_is_seen(facts: SnapshotFacts, message: str) -> None:
    assert message in complaints("OneState", lived(), snapshots=[facts])[0]


def test_a_snapshot_that_leads_elsewhere_is_seen() -> None:
    story = lived()
    digest = story.engine.digest()
    facts = SnapshotFacts(story.engine.last_index, digest, "0" * 32)

    assert "and what follows differ" in complaints("OneState", story, snapshots=[facts])[0]


# --- ReadersSeeTheLog


def test_a_reader_who_is_told_otherwise_is_seen() -> None:
    story = lived()

    assert complaints("ReadersSeeTheLog", story) == []

    reply = last_call(story, GetJob).reply
    assert isinstance(reply, JobReply)
    assert reply.job is not None
    reply.job.priority = 3

    assert "priority is 3, and should be 100" in complaints("ReadersSeeTheLog", story)[0]


def test_a_reader_who_is_told_of_another_time_is_seen() -> None:
    story = lived()
    last_call(story, GetJob).reply.index -= 1  # type: ignore[union-attr]

    assert "job state is" in complaints("ReadersSeeTheLog", story)[0]


def test_a_reader_who_does_not_find_what_is_there_is_seen() -> None:
    story = lived()
    call = last_call(story, GetJob)
    error = UnknownJob()
    error.index = call.reply.index  # type: ignore[union-attr]
    call.reply, call.error = None, error

    assert "is 'unknown_job', and should be" in complaints("ReadersSeeTheLog", story)[0]


def test_a_page_that_lacks_a_job_and_a_queue_that_miscounts_are_seen() -> None:
    story = lived()
    story.run(ListJobs())
    story.run(GetQueue("mail"))
    story.run(ListQueues())

    assert complaints("ReadersSeeTheLog", story) == []

    last_call(story, ListJobs).reply.jobs.pop()  # type: ignore[union-attr]
    last_call(story, GetQueue).reply.queue.ready = 7  # type: ignore[union-attr]
    last_call(story, ListQueues).reply.queues[0].dead = 7  # type: ignore[union-attr]

    found = complaints("ReadersSeeTheLog", story)

    assert "jobs is [" in found[0]
    assert "queue ready is 7" in found[1]
    assert "queues dead is 7" in found[2]


# --- ViewsFitTheLedger


CHANGES: list[tuple[str, Callable[[JobView], Any]]] = [
    ("its state", lambda view: setattr(view, "state", 6)),
    ("its queue", lambda view: setattr(view, "queue", "x")),
    ("its kind", lambda view: setattr(view, "kind", "x")),
    ("its token", lambda view: setattr(view, "token", 99)),
    ("its attempt", lambda view: setattr(view, "attempt", 5)),
    ("its priority", lambda view: setattr(view, "priority", 1)),
    ("its due time", lambda view: setattr(view, "run_at_ms", 1)),
    ("its payload", lambda view: setattr(view, "payload", b"?")),
]


@pytest.mark.parametrize(("what", "change"), CHANGES)
def test_a_job_that_ends_otherwise_than_the_log_says_is_seen(
    what: str, change: Callable[[JobView], Any]
) -> None:
    story = Telling()
    [job_id] = story.enqueue(1)
    jobs = story.final().jobs
    assert jobs is not None

    assert complaints("ViewsFitTheLedger", story, jobs=jobs) == []

    change(jobs[job_id])

    assert what in complaints("ViewsFitTheLedger", story, jobs=jobs)[0]


def test_a_job_that_should_be_gone_is_seen() -> None:
    story = lived()
    jobs = story.final().jobs
    assert jobs is not None
    jobs[bytes(16)] = copy.deepcopy(next(iter(jobs.values())))

    assert "unknown by the log, and there" in complaints("ViewsFitTheLedger", story, jobs=jobs)[0]


# --- LogKeepsWhatItHad


def kept(story: Telling) -> list[Recorded]:
    return [copy.deepcopy(one) for one in story.history.events if isinstance(one, Recorded)]


def test_a_log_that_keeps_everything_or_forgets_its_oldest_is_well() -> None:
    story = lived()

    assert complaints("LogKeepsWhatItHad", story, records=kept(story)) == []
    assert complaints("LogKeepsWhatItHad", story, records=kept(story)[2:]) == []


def test_a_record_that_changed_or_went_is_seen() -> None:
    story = lived()
    records = kept(story)
    records[1].record.jobs[0].payload = b"?"  # type: ignore[attr-defined]

    assert "record 2 has changed" in complaints("LogKeepsWhatItHad", story, records=records)[0]
    short = complaints("LogKeepsWhatItHad", story, records=kept(story)[:-1])
    assert "was durable" in short[0]


def test_a_gap_in_the_log_is_seen_and_what_others_saw_of_it_is_told() -> None:
    story = lived()
    story.history.events.remove(records_of(story, r.JobsEnqueued)[0])

    found = complaints("LogKeepsWhatItHad", story, log_faults=["the log has changed"])

    assert any("goes on at index 3 after 1" in one for one in found)
    assert any("the log has changed" in one for one in found)


# --- AnswersAreDurable


def test_an_answer_ahead_of_the_disk_is_seen() -> None:
    story = lived()

    assert complaints("AnswersAreDurable", story) == []

    call = last_call(story, Enqueue)
    call.returned_ns = call.called_ns

    assert "before it was durable" in complaints("AnswersAreDurable", story)[0]

    call.reply.index = 900  # type: ignore[union-attr]

    assert "observed index 900" in complaints("AnswersAreDurable", story)[0]


# --- NoAnswerFromThePast


def test_an_answer_older_than_one_before_it_is_seen() -> None:
    story = lived()

    assert complaints("NoAnswerFromThePast", story) == []

    last_call(story, GetJob).reply.index -= 1  # type: ignore[union-attr]

    assert "was answered" in complaints("NoAnswerFromThePast", story)[0]


def test_answers_of_calls_that_overlap_may_come_in_any_order() -> None:
    story = lived()
    call = last_call(story, GetJob)
    call.reply.index -= 1  # type: ignore[union-attr]
    call.called_ns = 0

    assert complaints("NoAnswerFromThePast", story) == []


# --- MemoryIsCounted, RecoveryIsBounded


def test_a_gauge_that_counts_otherwise_is_seen() -> None:
    story = lived()
    gauges = story.final().gauges

    assert complaints("MemoryIsCounted", story) == []

    for name in ("headrace_jobs", "headrace_jobs_ready", "headrace_jobs_kept_succeeded"):
        wrong = gauges | {name: gauges[name] + 1}
        assert name in complaints("MemoryIsCounted", story, gauges=wrong)[0]

    wrong = gauges | {"headrace_payload_bytes": 0}
    assert "are counted for payloads" in complaints("MemoryIsCounted", story, gauges=wrong)[0]


@pytest.mark.parametrize("name", ["headrace_payload_bytes", "headrace_finished_bytes"])
def test_bytes_that_nobody_has_said_are_not_held(name: str) -> None:
    story = lived()
    gauges = story.final().gauges
    wrong = gauges | {name: gauges[name] + 2_000}

    found = complaints("MemoryIsCounted", story, gauges=wrong)

    assert "all that the log has said" in found[0]


def test_what_jobs_were_told_counts_among_what_they_hold() -> None:
    story = lived()
    lease = story.claim_one()
    story.run(LogLines(*lease, ["line" * 200] * 5))
    story.run(Progress(*lease, b'"half"' * 100))
    story.nack(lease)

    assert complaints("MemoryIsCounted", story) == []


@pytest.mark.parametrize("succeeds", [True, False])
def test_a_final_job_that_is_older_than_its_queue_keeps_it_is_seen(succeeds: bool) -> None:
    story = lived()
    if not succeeds:
        story.nack(story.claim_one(), retryable=False)
    settings = QueueSettings(succeeded_age_ms=0 if succeeds else 1 << 40, dead_age_ms=0)
    insert(story, r.QueueConfigured("mail", settings))

    assert complaints("MemoryIsCounted", story) == []

    story.now_ms += 5_000

    found = complaints("MemoryIsCounted", story)

    assert len(found) == 1
    assert "kept for 5000 ms longer" in found[0]
    assert complaints("MemoryIsCounted", story, healed_ms=0) == []


def test_a_node_that_keeps_more_than_it_may_is_seen() -> None:
    story = lived()
    options = EngineOptions(finished_bytes=1)

    assert "are allowed" in complaints("MemoryIsCounted", story, options=options)[0]

    insert(story, r.QueueConfigured("mail", QueueSettings(succeeded_count=0)))

    assert "keeps 1 succeeded jobs" in complaints("MemoryIsCounted", story)[0]


def test_a_recovery_replays_what_lies_behind_its_snapshot() -> None:
    story = lived()

    assert complaints("RecoveryIsBounded", story, recoveries=[Recovery(1, 5, 4, 9)]) == []

    found = complaints("RecoveryIsBounded", story, recoveries=[Recovery(1, 5, 9, 9)])

    assert "9 records were replayed; 4 lie there" in found[0]

    published = Happened(1, "snapshot_published", {"index": 7})
    story.history.events.insert(0, published)
    found = complaints("RecoveryIsBounded", story, recoveries=[Recovery(2, 5, 4, 9)])

    assert "began at index 5; a snapshot had 7" in found[0]

    story.history.events.insert(1, Happened(1, "rot_a_bit"))

    assert complaints("RecoveryIsBounded", story, recoveries=[Recovery(2, 5, 4, 9)]) == []


# --- CheckupsAreClean


def test_a_complaint_and_a_missing_one_are_seen() -> None:
    story = lived()
    damaged = Checkup(1, "verify", ["segment 1 is damaged"], ["segment 1 is damaged"])

    assert complaints("CheckupsAreClean", story, checkups=[damaged, Checkup(2, "doctor")]) == []

    found = complaints("CheckupsAreClean", story, checkups=[Checkup(1, "doctor", ["a"], ["b"])])

    assert "doctor: a" in found[0]
    assert "doctor did not notice: b" in found[1]
