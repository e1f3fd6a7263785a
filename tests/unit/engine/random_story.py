"""Weighted random mixes of every command, checked after each against what must hold.

A second engine replays each record as it comes, and a third is loaded from snapshots that
were taken in slices while the first went on changing. `Checker` knows nothing of lanes,
heaps and rings: it looks at all jobs each time.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from headrace.codec.records import decode_records
from headrace.codec.rows import encode_rows
from headrace.engine.engine import Engine
from headrace.engine.job import LEASED, READY
from headrace.engine.snapshot import SnapshotWalk
from headrace.model import limits
from headrace.model.commands import (
    Ack,
    Cancel,
    ChangePriority,
    Claim,
    CloseSession,
    Command,
    ConfigureQueue,
    Delete,
    EndedLease,
    Enqueue,
    Expire,
    ExplainJob,
    Extend,
    Failure,
    GetJob,
    HeldLease,
    ListJobs,
    ListQueues,
    ListSessions,
    LogLines,
    Maintain,
    MarkStarted,
    Nack,
    NewJob,
    OpenSession,
    PauseQueue,
    Progress,
    Purge,
    Release,
    Reschedule,
    ResumeQueue,
    ResumeSession,
    Return,
    Revive,
    SetCredit,
)
from headrace.model.effects import PushJobs
from headrace.model.errors import ClientError, UnknownJob
from headrace.model.job import BACKOFF_FIXED, JobError, JobExtra, JobSpec, RetryPolicy
from headrace.model.options import EngineOptions
from headrace.model.queue import QueueSettings
from headrace.model.records import JobRevived, JobsClaimed, JobsEnqueued, Record
from headrace.model.replies import Claimed, Enqueued, PushedGroup, Reply, Settled
from tests.unit.engine.story import Lease, Story

QUEUES = ("mail", "video", "report")
KINDS = ("send", "cut", "sum")
FINAL = (5, 6, 7)

POLICIES = (
    None,
    RetryPolicy(attempt_max=2, backoff=BACKOFF_FIXED, base_ms=0, jitter=False),
    RetryPolicy(attempt_max=3, base_ms=50, cap_ms=400, crash_max=2),
)


class RandomStory:
    """One random life of an engine; the same seed is the same life."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        # Some lives go unchecked until their end: a check must not be what keeps them well.
        verify = seed % 5 != 4
        finished_bytes = self.dice.choice((900, 6_000, 1 << 20))
        options = EngineOptions(verify=verify, finished_bytes=finished_bytes)
        self.story = Story(options)
        self.replica = Engine(options)
        self.seen = 0
        self.walk: SnapshotWalk | None = None
        self.blocks: list[bytes] = []
        self.walk_digest = ""
        self.ids: list[bytes] = []
        self.leases: list[Lease] = []
        """Every lease ever granted, live or not."""
        self.answers: dict[Lease, str] = {}
        """Leases settled by ack or nack: which of them won."""
        self.sessions: list[bytes] = []
        self.tokens: dict[bytes, int] = {}
        self.made = 0
        self.verbs: list[tuple[int, Callable[[], None]]] = [
            (16, self.enqueue),
            (3, self.enqueue_again),
            (12, self.claim),
            (12, self.serve),
            (12, self.ack),
            (8, self.nack),
            (7, self.release),
            (6, self.expire),
            (3, self.start),
            (4, self.tell),
            (4, self.cancel),
            (4, self.reschedule),
            (4, self.change_priority),
            (4, self.revive),
            (3, self.delete),
            (1, self.purge),
            (2, self.configure),
            (2, self.pause),
            (3, self.open_session),
            (1, self.close_session),
            (2, self.resume_session),
            (8, self.pass_time),
            (2, self.read),
            (3, self.snapshot),
        ]
        # Some lives lack some verbs: without claims heaps grow, without acks leases do.
        self.weights = [
            weight * self.dice.choice((0, 1, 1, 1, 2, 6)) + 0.01 for weight, _ in self.verbs
        ]

    def live(self, steps: int) -> None:
        for _ in range(steps):
            [(_, verb)] = self.dice.choices(self.verbs, self.weights)
            verb()
            self.check()
        self.finish_walk()
        self.story.engine.check_state()
        self.story.assert_replays()

    # --- after each command

    def run(self, command: Command) -> Reply | None:
        engine = self.story.engine
        before = engine.digest() if self.dice.random() < 0.1 and self.walk is None else ""
        try:
            return self.story.run(command, self.dice.getrandbits(64))
        except ClientError:
            if before:
                assert before == engine.digest(), "a refused command changed the state"
            return None

    def check(self) -> None:
        story = self.story
        for body in story.committed[self.seen :]:
            self.seen += 1
            [record] = decode_records(body, 1)
            self.note(record)
            self.replica.apply(self.seen, record)
        assert story.engine.last_index == self.seen
        if self.dice.random() < 0.25:
            assert story.engine.digest() == self.replica.digest(), "replay differs from life"
        self.check_jobs()

    def note(self, record: Record) -> None:
        if isinstance(record, JobsClaimed):
            for job_id in record.job_ids:
                assert self.tokens.get(job_id, 0) < self.seen, "tokens grow"
                self.tokens[job_id] = self.seen
        if isinstance(record, JobsEnqueued):
            # An id that was forgotten may be used again: that is another job.
            ids = {job.job_id for job in record.jobs}
            self.tokens.update(dict.fromkeys(ids, 0))
            self.forget_answers(ids)
        if isinstance(record, JobRevived):
            self.forget_answers({record.job_id})

    def forget_answers(self, ids: set[bytes]) -> None:
        """What these jobs ended with is no longer how they ended."""
        for lease in [lease for lease in self.answers if lease[0] in ids]:
            del self.answers[lease]

    def check_jobs(self) -> None:
        state = self.story.engine.state
        for _, job in state.jobs.items():
            policy = job.spec.wire.retry or state.queues[job.spec.queue].settings.retry
            charged = job.attempt + (job.state == LEASED)
            assert charged <= max(policy.attempt_max, self.attempts_allowed(job.job_id))
            assert job.token == self.tokens.get(job.job_id, 0), "the token is that of the claim"
        for queue in state.queues.values():
            # Rings are shortened at the end of a turn; only then do they keep their bounds.
            assert queue.counts[READY] >= 0

    def attempts_allowed(self, job_id: bytes) -> int:
        """The queue's policy may have shrunk since the job had its attempts."""
        return limits.ATTEMPT_MAX_DEFAULT

    # --- producing

    def extra(self) -> JobExtra | None:
        dice = self.dice
        if dice.random() < 0.6:
            return None
        return JobExtra(
            key=dice.choice(("", "", "a", "b", "c")),
            key_window_ms=dice.choice((1, 500, 5_000, 86_400_000)),
            start_by_ms=dice.choice((0, 0, self.story.now_ms + dice.randrange(1, 3_000))),
            tags=dice.choice(((), ("red",))),
            headers=dice.choice((None, {"trace": "1"})),
        )

    def enqueue(self) -> None:
        dice = self.dice
        specs = [
            JobSpec(dice.choice(QUEUES), dice.choice(KINDS), retry=dice.choice(POLICIES))
            for _ in range(dice.choice((1, 1, 2)))
        ]
        jobs = [
            NewJob(
                self.story.new_id() if dice.random() < 0.95 else b"",
                dice.randrange(len(specs)),
                dice.choice((b"{}", b"[1]", b"x" * 300)),
                dice.choice((100, 100, 100, 0, 255, 101)),
                delay_ms=dice.choice((0, 0, 0, 5, 700, 4_000)),
                extra=self.extra(),
            )
            for _ in range(dice.choice((1, 1, 1, 3, 10)))
        ]
        if dice.random() < 0.1:
            jobs[-1].priority = 256
        reply = self.run(Enqueue(specs, jobs, atomic=dice.random() < 0.3))
        if isinstance(reply, Enqueued):
            passed = {item.position for item in (*(reply.existing or ()), *(reply.problems or ()))}
            self.ids += [job.job_id for at, job in enumerate(jobs) if at not in passed]

    def enqueue_again(self) -> None:
        """The same id once more: known, in conflict, or, long after its end, new."""
        if not self.ids:
            return
        job_id = self.dice.choice(self.ids)
        state = self.story.engine.state
        known = state.jobs.get(job_id) is not None or state.ended.get(job_id) is not None
        spec = JobSpec("mail", "send")
        reply = self.run(Enqueue([spec], [NewJob(job_id, 0, b"{}")]))
        if known and isinstance(reply, Enqueued):
            assert reply.existing or reply.problems, "an id names one job"

    # --- holding

    def expected(self, queues: tuple[str, ...], kinds: tuple[str, ...], count: int) -> list[bytes]:
        """What a claim must get, found by looking at every job there is."""
        state = self.story.engine.state
        found: list[bytes] = []
        for name in queues:
            queue = state.queues.get(name)
            if queue is None or queue.paused:
                continue
            ready = [
                job
                for _, job in state.jobs.items()
                if job.state == READY and job.spec.queue == name and job.spec.kind in kinds
            ]
            ready.sort(key=lambda job: (-job.priority, job.number))
            found += [job.job_id for job in ready]
        return found[:count]

    def claim(self) -> None:
        dice = self.dice
        queues = tuple(dice.sample(QUEUES, dice.randint(1, 3)))
        kinds = tuple(dice.sample(KINDS, dice.randint(1, 3)))
        count = dice.choice((1, 1, 2, 5, 50))
        self.run(Maintain())
        expected = self.expected(queues, kinds, count)
        reply = self.run(Claim(queues, kinds, count))
        assert isinstance(reply, Claimed)
        claimed = [job.job_id for group in reply.groups for job in group.jobs]

        assert sorted(expected) == sorted(claimed), "highest priority first, then first in"

        self.take(reply.groups)

    def take(self, groups: list[PushedGroup]) -> None:
        state = self.story.engine.state
        for group in groups:
            for pushed in group.jobs:
                job = state.jobs.get(pushed.job_id)
                assert job is not None
                assert job.run_at_ms <= self.story.now_ms, "no job starts before its time"
                self.leases.append((pushed.job_id, group.token))

    def serve(self) -> None:
        state = self.story.engine.state
        for effect in self.story.dispatch():
            assert isinstance(effect, PushJobs)
            self.take(effect.groups)
        for session in state.sessions.values():
            if session.room > 0:
                for served in session.served:
                    if not state.queues[served[0].queue].paused:
                        assert not any(lanes.bitmap for lanes in served), "a ready job waits"

    def some_leases(self) -> list[Lease]:
        """Mostly newer ones, so that many are live."""
        recent = self.leases[-30:] if self.dice.random() < 0.9 else self.leases
        return self.dice.sample(recent, min(len(recent), self.dice.choice((1, 1, 2, 4))))

    def settle(self, leases: list[Lease], command: Command, word: str) -> None:
        engine = self.story.engine
        live = [lease for lease in leases if engine.holds(*lease)]
        reply = self.run(command)
        assert isinstance(reply, Settled)
        refused = {problem.position: problem.code for problem in reply.problems or ()}
        for position, lease in enumerate(leases):
            if lease in live:
                assert position not in refused, "a live lease is taken at its word"
                assert not engine.holds(*lease)
                self.answers[lease] = word
            else:
                code = refused.get(position, "")
                assert code in ("", "stale_lease", "unknown_job")
                assert code or self.answers.get(lease) is not None or word == "nack"

    def ack(self) -> None:
        leases = self.some_leases()
        result = self.dice.choice((None, b"done"))
        self.settle(leases, Ack([(*lease, result) for lease in leases]), "ack")
        if leases and self.dice.random() < 0.3:
            self.ack_again(leases)

    def ack_again(self, leases: list[Lease]) -> None:
        index = self.story.engine.last_index
        reply = self.run(Ack([(*lease, None) for lease in leases]))
        assert isinstance(reply, Settled)
        refused = {problem.position for problem in reply.problems or ()}
        won = {at for at, lease in enumerate(leases) if self.answers.get(lease) == "ack"}
        kept = {at for at in won if self.is_known(leases[at])}

        assert not refused & kept, "the answer of the winner is given again"
        assert index == self.story.engine.last_index, "and nothing happens twice"

    def is_known(self, lease: Lease) -> bool:
        """Still final under this lease, as far as the engine remembers."""
        state = self.story.engine.state
        if state.jobs.get(lease[0]) is not None:
            return False
        return state.ended.get(lease[0]) is not None

    def nack(self) -> None:
        leases = self.some_leases()
        dice = self.dice
        failures = [
            Failure(
                *lease,
                JobError("E", "m" * dice.choice((1, 4_000))),
                dice.random() < 0.8,
                dice.choice((-1, -1, 0, 300)),
            )
            for lease in leases
        ]
        self.settle(leases, Nack(failures), "nack")

    def release(self) -> None:
        dice = self.dice
        leases = self.some_leases()
        live = [self.story.engine.holds(*lease) for lease in leases]
        returns = [
            Return(*lease, dice.choice((0, 0, 250)), dice.random() < 0.3) for lease in leases
        ]
        again = dice.random() < 0.1
        reply = self.run(Release(returns * 2 if again else returns))
        assert isinstance(reply, Settled)
        refused = {problem.position for problem in reply.problems or ()}
        assert [at not in refused for at in range(len(leases))] == live

    def expire(self) -> None:
        dice = self.dice
        leases = [EndedLease(*lease, dice.random() < 0.5) for lease in self.some_leases()]
        self.run(Expire(leases * dice.choice((1, 2)), dice.choice(("worker_lost", "timeout"))))
        assert not any(self.story.engine.holds(one.job_id, one.token) for one in leases)

    def start(self) -> None:
        self.run(MarkStarted(self.some_leases()))

    def tell(self) -> None:
        for lease in self.some_leases()[:1]:
            self.run(Progress(*lease, b"50%"))
            self.run(LogLines(*lease, ["line"]))
            self.run(Extend([lease]))

    # --- changing

    def some_id(self) -> bytes:
        return self.dice.choice(self.ids[-40:] or [bytes(16)])

    def cancel(self) -> None:
        self.run(Cancel(self.some_id(), self.dice.choice(("", "why"))))

    def reschedule(self) -> None:
        self.run(Reschedule(self.some_id(), 0, self.dice.choice((0, 40, 2_000))))

    def change_priority(self) -> None:
        self.run(ChangePriority(self.some_id(), self.dice.choice((0, 100, 101, 255))))

    def revive(self) -> None:
        self.run(Revive(self.some_id(), self.dice.choice((0, 0, 100))))

    def delete(self) -> None:
        job_id = self.some_id()
        if self.run(Delete(job_id)) is not None:
            try:
                self.story.engine.job_view(job_id)
                raise AssertionError("a deleted job is not found")
            except UnknownJob:
                pass

    def purge(self) -> None:
        states = tuple(self.dice.sample((1, 3, 5, 6, 7), self.dice.randint(1, 3)))
        self.run(Purge(self.dice.choice(QUEUES), states))

    def configure(self) -> None:
        dice = self.dice
        settings = QueueSettings(
            retry=dice.choice((RetryPolicy(), RetryPolicy(attempt_max=4, base_ms=10))),
            succeeded_age_ms=dice.choice((300, 86_400_000)),
            succeeded_count=dice.choice((0, 3, 10_000)),
            dead_age_ms=dice.choice((1_000, 86_400_000)),
            dead_count=dice.choice((2, 10_000)),
            dead_bytes=dice.choice((2_000, 1 << 20)),
        )
        self.run(ConfigureQueue(dice.choice(QUEUES), settings))

    def pause(self) -> None:
        pause = self.dice.random() < 0.4
        names = (self.dice.choice(QUEUES),) if pause else QUEUES
        for name in names:
            self.run(PauseQueue(name) if pause else ResumeQueue(name))

    # --- sessions

    def open_session(self) -> None:
        dice = self.dice
        if len(self.sessions) > 4:
            self.run(SetCredit(dice.choice(self.sessions), dice.randrange(6)))
            return
        self.made += 1
        session_id = self.made.to_bytes(16, "big")
        queues = tuple(dice.sample(QUEUES, dice.randint(1, 3)))
        kinds = tuple(dice.sample(KINDS, dice.randint(1, 3)))
        self.run(
            OpenSession(
                session_id,
                "w",
                "h",
                1,
                "b",
                kinds,
                queues,
                dice.randrange(8),
                dice.random() < 0.3,
            )
        )
        self.sessions.append(session_id)

    def close_session(self) -> None:
        if self.sessions:
            session_id = self.sessions.pop(self.dice.randrange(len(self.sessions)))
            self.run(CloseSession(session_id, "bye"))

    def resume_session(self) -> None:
        if not self.sessions:
            return
        session_id = self.dice.choice(self.sessions)
        engine = self.story.engine
        engine.set_connected(session_id, self.dice.random() < 0.8)
        held = engine.leases_of(session_id)
        kept = [HeldLease(one.job_id, one.token) for one in held if self.dice.random() < 0.8]
        if self.dice.random() < 0.5:
            self.run(ResumeSession(session_id, kept, self.dice.randrange(1, 8)))
            tokens = {one.token for one in engine.leases_of(session_id)}
            assert tokens <= {one.token for one in kept}

    # --- time, reads, snapshots

    def pass_time(self) -> None:
        self.story.wait(self.dice.choice((0, 1, 50, 400, 3_000, 150_000)))

    def read(self) -> None:
        dice = self.dice
        self.run(ListJobs(limit=dice.choice((1, 7, 100))))
        self.run(ListQueues())
        self.run(ListSessions())
        self.run(GetJob(self.some_id()))
        self.run(ExplainJob(self.some_id()))

    def snapshot(self) -> None:
        """Begin one, take a slice of it, or load what is complete."""
        if self.walk is None:
            self.walk_digest = self.story.engine.digest()
            self.walk = self.story.engine.begin_snapshot()
            self.blocks = []
        elif self.dice.random() < 0.1:
            self.walk.cancel()
            self.walk = None
        else:
            self.take_slice(self.walk)

    def take_slice(self, walk: SnapshotWalk) -> None:
        rows = walk.next_rows(self.dice.choice((1, 3, 20)))
        if rows:
            self.blocks.append(encode_rows(rows))
            return
        loaded = self.story.loaded(self.blocks, walk.index)
        self.walk = None

        assert self.story.engine.digest() == loaded.digest(), "snapshot and suffix differ from life"

    def finish_walk(self) -> None:
        while self.walk is not None:
            self.take_slice(self.walk)
