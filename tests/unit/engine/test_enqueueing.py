"""Enqueue: what is new, what is known, what is refused, and what a call costs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest

from headrace.engine.engine import Engine
from headrace.model import limits
from headrace.model.commands import Ack, ConfigureQueue, Enqueue, Failure, Nack, NewJob, OpenSession
from headrace.model.errors import ClientError, MemoryFull
from headrace.model.ids import slot_of_id, slot_of_queue
from headrace.model.job import JobError, JobExtra, JobSpec, RetryPolicy, State
from headrace.model.options import EngineOptions
from headrace.model.queue import DURABILITY_ASYNC, DURABILITY_GROUP, DURABILITY_SYNC, QueueSettings
from headrace.model.records import JobsEnqueued
from headrace.model.replies import Enqueued
from tests.unit.engine.story import PLAIN, Lease, Story

MAIL = JobSpec("mail", "send")


def call(story: Story, *jobs: NewJob, atomic: bool = False, seed: int = 7) -> Enqueued:
    reply = story.run(Enqueue([MAIL], list(jobs), atomic), seed)
    assert isinstance(reply, Enqueued)
    return reply


def test_repeated_call_creates_nothing_and_names_what_is_there() -> None:
    story = Story()
    job = NewJob(story.new_id(), 0, b"{}", delay_ms=1_000)
    assert call(story, job).existing is None
    index = story.engine.last_index

    [existing] = call(story, job).existing or []

    assert (existing.job_id, existing.state) == (job.job_id, State.SCHEDULED)
    assert story.engine.last_index == index


@pytest.mark.parametrize("change", ["payload", "queue", "kind"])
def test_same_id_with_other_content_is_a_conflict(change: str) -> None:
    story = Story()
    job_id = story.enqueue_one()
    spec = JobSpec("video" if change == "queue" else "mail", "cut" if change == "kind" else "send")
    payload = b"[]" if change == "payload" else b"{}"

    reply = story.run(Enqueue([spec], [NewJob(job_id, 0, payload)]))

    assert isinstance(reply, Enqueued)
    [problem] = reply.problems or []
    assert problem.code == "id_conflict"


def test_final_job_answers_for_its_id() -> None:
    story = Story()
    job_id = story.enqueue_one()
    story.ack(story.claim_one())

    [existing] = call(story, NewJob(job_id, 0, b"{}")).existing or []

    assert existing.state == State.SUCCEEDED


def test_each_job_of_a_call_is_answered_alone() -> None:
    story = Story()
    good, bad, twin = (NewJob(story.new_id(), 0, b"{}") for _ in range(3))
    bad.priority = 256
    twin.job_id = good.job_id

    reply = call(story, good, bad, twin)

    assert [problem.position for problem in reply.problems or []] == [1]
    assert [(one.position, one.state) for one in reply.existing or []] == [(2, State.READY)]
    assert story.engine.state.job_count == 1


def test_atomic_call_is_refused_as_a_whole_and_names_the_position() -> None:
    story = Story()
    jobs = [NewJob(story.new_id(), 0, b"{}") for _ in range(3)]
    jobs[2].priority = -1

    with pytest.raises(ClientError) as refused:
        call(story, *jobs, atomic=True)

    assert refused.value.details["position"] == 2
    assert story.engine.state.job_count == 0


def test_call_is_one_record_a_spec() -> None:
    story = Story()
    specs = [MAIL, JobSpec("video", "cut")]
    jobs = [NewJob(story.new_id(), number % 2, b"{}") for number in range(10)]
    story.engine.begin_turn(story.now_ms)
    story.engine.run(Enqueue(specs, jobs))

    records = [record for record in story.commit() if isinstance(record, JobsEnqueued)]

    assert [len(record.jobs) for record in records] == [5, 5]


def test_server_names_jobs_from_the_seed_and_the_slot_of_their_queue() -> None:
    ids = []
    for _ in range(2):
        story = Story()
        reply = call(story, *(NewJob(b"", 0, b"{}") for _ in range(3)), seed=99)
        ids.append(reply.made_ids or [])

    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 3
    assert {slot_of_id(job_id) for job_id in ids[0]} == {slot_of_queue("mail")}


def test_ids_of_neighbouring_seeds_have_nothing_in_common() -> None:
    story = Story()
    first = call(story, *(NewJob(b"", 0, b"{}") for _ in range(5)), seed=99).made_ids or []
    second = call(story, *(NewJob(b"", 0, b"{}") for _ in range(5)), seed=100).made_ids or []

    assert not set(first) & set(second)


@dataclasses.dataclass(frozen=True)
class Bad:
    name: str
    code: str
    spec: JobSpec = MAIL
    fields: tuple[tuple[str, object], ...] = ()


BAD = [
    Bad("an empty queue", "bad_name", JobSpec("", "send")),
    Bad("a queue of 129 bytes", "bad_name", JobSpec("é" * 64 + "x", "send")),
    Bad("a reserved name", "bad_name", JobSpec("$x", "send")),
    Bad("a control character", "bad_name", JobSpec("a\nb", "send")),
    Bad("a C1 control character", "bad_name", JobSpec("a\x85b", "send")),
    Bad("an empty kind", "bad_name", JobSpec("mail", "")),
    Bad("a negative timeout", "bad_request", JobSpec("mail", "send", timeout_ms=-1)),
    Bad("no attempts", "bad_request", JobSpec("mail", "send", retry=RetryPolicy(attempt_max=0))),
    Bad("a list without delays", "bad_request", JobSpec("mail", "k", retry=RetryPolicy(backoff=3))),
    Bad("an unknown spec", "bad_request", fields=(("spec", 1),)),
    Bad("a short id", "bad_request", fields=(("job_id", b"x"),)),
    Bad("a priority of 256", "bad_request", fields=(("priority", 256),)),
    Bad("two times", "bad_request", fields=(("run_at_ms", 1), ("delay_ms", 1))),
    Bad("a negative delay", "bad_request", fields=(("delay_ms", -1),)),
    Bad("a delay beyond ten years", "bad_request", fields=(("delay_ms", 1 << 45),)),
    Bad("17 tags", "bad_request", fields=(("extra", JobExtra(tags=("t",) * 17)),)),
    Bad("a tag of 65 bytes", "bad_request", fields=(("extra", JobExtra(tags=("t" * 65,))),)),
    Bad("a window of 8 days", "bad_request", fields=(("extra", JobExtra("k", 8 * 86_400_000)),)),
    Bad("a long key", "bad_request", fields=(("extra", JobExtra("k" * 257)),)),
    Bad(
        "large headers",
        "payload_too_large",
        fields=(("extra", JobExtra(headers={"h": "x" * limits.HEADERS_BYTES_MAX})),),
    ),
    Bad("a large payload", "payload_too_large", fields=(("payload", bytes(limits.MIB + 1)),)),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_job_with_a_fault_is_refused_and_changes_nothing(bad: Bad) -> None:
    story = Story()
    job = NewJob(story.new_id(), 0, b"{}")
    for name, value in bad.fields:
        setattr(job, name, value)
    digest = story.engine.digest()

    reply = story.run(Enqueue([bad.spec], [job]))

    assert isinstance(reply, Enqueued)
    assert [problem.code for problem in reply.problems or []] == [bad.code]
    assert story.engine.digest() == digest


def test_call_of_too_many_jobs_or_bytes_is_refused() -> None:
    story = Story()
    many = [NewJob(b"", 0, b"") for _ in range(limits.JOBS_PER_CALL_MAX + 1)]
    large = [NewJob(b"", 0, bytes(limits.MIB)) for _ in range(9)]

    assert story.refusal(Enqueue([MAIL], many)) == "batch_too_large"
    assert story.refusal(Enqueue([MAIL], large)) == "batch_too_large"


def test_queues_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUEUES_MAX", 2)
    story = Story()
    story.enqueue(1)
    specs = [JobSpec(name, "send") for name in ("video", "report")]

    reply = story.run(Enqueue(specs, [NewJob(story.new_id(), 0, b""), NewJob(b"", 1, b"")]))

    assert isinstance(reply, Enqueued)
    assert [problem.code for problem in reply.problems or []] == ["limit_reached"]
    assert story.refusal(ConfigureQueue("report", QueueSettings())) == "limit_reached"


def test_lanes_that_sessions_name_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LANES_MAX", 10)
    story = Story()
    story.open_session(1, kinds=[str(number) for number in range(8)])
    again = OpenSession(bytes(15) + b"\2", "w", "h", 1, "b", ("x", "y", "z"), ("mail",), 1)

    assert story.refusal(again) == "limit_reached"
    story.open_session(1, kinds=["8"])


def test_jobs_in_memory_are_bounded() -> None:
    story = Story(EngineOptions(jobs_max=2, verify=True))
    story.enqueue(2)

    with pytest.raises(MemoryFull, match="2 jobs"):
        call(story, NewJob(b"", 0, b""))


def test_bytes_in_memory_are_bounded_and_the_queue_that_holds_them_is_named() -> None:
    story = Story(EngineOptions(payload_memory_bytes=1_000))
    story.enqueue(1, payload=bytes(900))

    with pytest.raises(MemoryFull, match="'mail' holds most"):
        call(story, NewJob(b"", 0, bytes(101)))


def test_errors_of_waiting_jobs_count_as_memory() -> None:
    story = Story()
    story.enqueue_one()
    before = story.engine.state.payload_bytes
    story.nack(story.claim_one())

    assert story.engine.state.payload_bytes > before
    story.assert_replays()


def test_revive_needs_room_like_an_enqueue() -> None:
    story = Story(EngineOptions(jobs_max=1, verify=True))
    job_id = story.enqueue_one()
    story.ack(story.claim_one())
    story.enqueue_one()

    with pytest.raises(MemoryFull):
        story.revive(job_id)


def test_durability_of_a_call_is_the_strictest_of_its_queues() -> None:
    engine = Story().engine
    story = Story()
    story.run(ConfigureQueue("fast", QueueSettings(durability=DURABILITY_ASYNC)))
    story.run(ConfigureQueue("safe", QueueSettings(durability=DURABILITY_SYNC)))

    def asked(*names: str) -> int:
        return story.engine.durability_of(Enqueue([JobSpec(name, "k") for name in names], []))

    assert asked("fast") == DURABILITY_ASYNC
    assert asked("fast", "never seen") == DURABILITY_GROUP
    assert asked("fast", "safe") == DURABILITY_SYNC
    assert engine.durability_of(Enqueue([MAIL], [])) == DURABILITY_GROUP


def test_ack_that_is_repeated_beside_one_of_an_async_queue_waits_for_the_disk() -> None:
    """The first one may be of this very commit, in a queue that wants its acks durable."""
    story = Story()
    story.run(ConfigureQueue("fast", QueueSettings(durability=DURABILITY_ASYNC)))
    story.enqueue_one()
    story.enqueue_one(queue="fast")
    done, fast = story.claim_one(), story.claim_one(queues=("fast",))
    story.ack(done)

    def asked(*leases: Lease) -> int:
        return story.engine.durability_of(Ack([(*lease, None) for lease in leases]))

    assert asked(fast) == DURABILITY_ASYNC
    assert asked(done, fast) == DURABILITY_GROUP


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
@pytest.mark.parametrize("count", [100_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_waiting_job_costs_at_most_700_bytes_beside_its_payload(count: int) -> None:
    """Measured as resident memory: what the allocator really holds for them."""
    engine = Engine(PLAIN)
    engine.start_epoch(1, b"n", "node", 1_700_000_000_000)
    engine.take_turn()
    payload_bytes = 100
    # What a first call allocates for good is not the jobs'.
    fill(engine, 10_000, 0, payload_bytes)
    before = resident_bytes()
    fill(engine, count, 10_000, payload_bytes)
    a_job = (resident_bytes() - before) / count - payload_bytes

    assert 100 < a_job <= 700


def fill(engine: Engine, count: int, first: int, payload_bytes: int) -> None:
    """Jobs as a server gets them: every id, payload and struct decoded from the wire."""
    decoder = msgspec.msgpack.Decoder(Enqueue)
    for start in range(first, first + count, 1_000):
        jobs = [
            NewJob(number.to_bytes(16, "big"), 0, number.to_bytes(payload_bytes, "big"))
            for number in range(start, start + 1_000)
        ]
        engine.begin_turn(engine.now_ms + 1)
        engine.run(decoder.decode(msgspec.msgpack.encode(Enqueue([MAIL], jobs))))
        engine.take_turn()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_long_error_is_cut_in_the_middle_and_says_so() -> None:
    story = Story()
    job_id = story.enqueue_one()
    lease = story.claim_one()
    error = JobError("E", "é" * limits.ERROR_MESSAGE_BYTES_MAX, "first\n" + "x" * 9_000 + "\nlast")
    story.run(Nack([Failure(*lease, error)]))

    [kept] = story.job(job_id).errors
    assert len(kept.message.encode()) <= limits.ERROR_MESSAGE_BYTES_MAX
    assert len(kept.traceback.encode()) <= limits.TRACEBACK_BYTES_MAX
    assert kept.traceback.startswith("first")
    assert kept.traceback.endswith("last")
    assert "bytes cut" in kept.traceback
