"""An engine, and all that was ever committed, in words for tests.

Every turn's records go through the codec, so that what is replayed is what a log would
hold, not the objects that the live engine still has in its hands.
"""

from __future__ import annotations

from collections.abc import Iterable

from headrace.codec.records import decode_records, encode_records
from headrace.codec.rows import decode_rows, encode_rows
from headrace.engine.engine import Engine
from headrace.model.commands import (
    Ack,
    Cancel,
    Claim,
    Command,
    Delete,
    EndedLease,
    Enqueue,
    Expire,
    Failure,
    GetJob,
    Maintain,
    Nack,
    NewJob,
    OpenSession,
    Release,
    Return,
    Revive,
)
from headrace.model.effects import Effect, PushJobs
from headrace.model.errors import ClientError
from headrace.model.ids import make_job_id
from headrace.model.job import JobError, JobExtra, JobSpec, RetryPolicy, State
from headrace.model.options import EngineOptions
from headrace.model.records import Record
from headrace.model.replies import Claimed, Enqueued, JobReply, JobView, Reply, Settled

BEGIN_MS = 1_700_000_000_000

Lease = tuple[bytes, int]

VERIFIED = EngineOptions(verify=True)
PLAIN = EngineOptions()
"""For large states: looking at all of it after every command takes too long."""


class Story:
    """One engine from its first record on."""

    def __init__(self, options: EngineOptions = VERIFIED) -> None:
        self.options = options
        self.engine = Engine(options)
        self.now_ms = BEGIN_MS
        self.committed: list[bytes] = []
        """One encoded record each; the first has index 1."""
        self.effects: list[Effect] = []
        self._ids = 0
        self.engine.start_epoch(1, b"nonce", "node", self.now_ms)
        self.commit()

    # --- turns

    def run(self, command: Command, seed: int = 7) -> Reply:
        """One command in a turn of its own. A refused one leaves no record behind."""
        index = self.engine.last_index
        self.engine.begin_turn(self.now_ms)
        try:
            return self.engine.run(command, seed)
        except ClientError:
            assert self.engine.last_index == index
            raise
        finally:
            self.commit()

    def commit(self) -> list[Record]:
        """The turn ends; its records are kept as bytes."""
        records, effects = self.engine.take_turn()
        self.effects += effects
        self.committed += [encode_records([record]) for record in records]
        return records

    def dispatch(self) -> list[PushJobs]:
        """Sessions are served until none can be; what was pushed to them."""
        self.engine.begin_turn(self.now_ms)
        before = len(self.effects)
        while self.engine.dispatch():
            self.commit()
        self.commit()
        return [effect for effect in self.effects[before:] if isinstance(effect, PushJobs)]

    def wait(self, duration_ms: int) -> None:
        """Time passes, and the node does all that becomes due in it, when it becomes due."""
        until_ms = self.now_ms + duration_ms
        for _ in range(10_000):
            due_ms = self.engine.next_due_ms()
            if due_ms is None or due_ms > until_ms:
                break
            self.now_ms = max(self.now_ms, due_ms)
            self.run(Maintain())
        else:
            raise AssertionError("maintenance never comes to rest")
        self.now_ms = until_ms
        self.engine.begin_turn(until_ms)

    # --- words

    def new_id(self) -> bytes:
        self._ids += 1
        return make_job_id(self.now_ms, 1, self._ids.to_bytes(8, "big"))

    def enqueue(
        self,
        count: int = 1,
        *,
        queue: str = "mail",
        kind: str = "send",
        payload: bytes = b"{}",
        priority: int = 100,
        delay_ms: int = 0,
        retry: RetryPolicy | None = None,
        timeout_ms: int = 0,
        extra: JobExtra | None = None,
    ) -> list[bytes]:
        """New jobs, all of which are accepted."""
        ids = [self.new_id() for _ in range(count)]
        spec = JobSpec(queue, kind, retry=retry, timeout_ms=timeout_ms)
        jobs = [NewJob(job_id, 0, payload, priority, 0, delay_ms, extra) for job_id in ids]
        reply = self.run(Enqueue([spec], jobs))
        assert isinstance(reply, Enqueued)
        assert reply.problems is None
        assert reply.existing is None
        return ids

    def enqueue_one(self, **placement: object) -> bytes:
        return self.enqueue(1, **placement)[0]  # type: ignore[arg-type]

    def claim(
        self, count: int = 1, *, queues: Iterable[str] = ("mail",), kinds: Iterable[str] = ("send",)
    ) -> list[Lease]:
        """Leases of a client without a session, in the order of the claim's groups."""
        reply = self.run(Claim(tuple(queues), tuple(kinds), count))
        assert isinstance(reply, Claimed)
        return [(job.job_id, group.token) for group in reply.groups for job in group.jobs]

    def claim_one(self, **wanted: object) -> Lease:
        [lease] = self.claim(1, **wanted)  # type: ignore[arg-type]
        return lease

    def open_session(
        self,
        number: int = 1,
        *,
        queues: Iterable[str] = ("mail",),
        kinds: Iterable[str] = ("send",),
        credit: int = 10,
        strict: bool = False,
    ) -> bytes:
        session_id = number.to_bytes(16, "big")
        name = f"worker-{number}"
        self.run(
            OpenSession(
                session_id, name, "host", number, "b1", tuple(kinds), tuple(queues), credit, strict
            )
        )
        return session_id

    def ack(self, *leases: Lease, result: bytes | None = None) -> list[str]:
        """Codes of the refusals."""
        return codes_of(self.run(Ack([(job_id, token, result) for job_id, token in leases])))

    def nack(
        self, *leases: Lease, retryable: bool = True, delay_ms: int = -1, seed: int = 7
    ) -> list[str]:
        error = JobError("ValueError", "bad", "line 1")
        failures = [Failure(*lease, error, retryable, delay_ms) for lease in leases]
        return codes_of(self.run(Nack(failures), seed))

    def release(self, *leases: Lease, delay_ms: int = 0, started: bool = False) -> list[str]:
        returns = [Return(*lease, delay_ms, started) for lease in leases]
        return codes_of(self.run(Release(returns)))

    def expire(self, *leases: Lease, started: bool = True, reason: str = "worker_lost") -> None:
        self.run(Expire([EndedLease(*lease, started) for lease in leases], reason))

    def cancel(self, job_id: bytes) -> Reply:
        return self.run(Cancel(job_id, "not wanted"))

    def delete(self, job_id: bytes) -> None:
        self.run(Delete(job_id))

    def revive(self, job_id: bytes) -> None:
        self.run(Revive(job_id))

    # --- questions

    def job(self, job_id: bytes) -> JobView:
        reply = self.run(GetJob(job_id))
        assert isinstance(reply, JobReply)
        assert reply.job is not None
        return reply.job

    def state(self, job_id: bytes) -> State:
        return State(self.job(job_id).state)

    def refusal(self, command: Command) -> str:
        """The code with which the command is refused; `` when it is granted."""
        try:
            self.run(command)
        except ClientError as error:
            return error.code
        return ""

    # --- again from the records

    def replayed(self, upto: int | None = None) -> Engine:
        """A new engine that has seen the first `upto` records only."""
        engine = Engine(self.options)
        self.apply_after(engine, 0, upto)
        return engine

    def apply_after(self, engine: Engine, index: int, upto: int | None = None) -> None:
        for position, body in enumerate(self.committed[index:upto], start=index + 1):
            [record] = decode_records(body, 1)
            engine.apply(position, record)

    def loaded(self, blocks: Iterable[bytes], index: int) -> Engine:
        """A new engine from a snapshot of `index`, and the records behind it."""
        engine = Engine(self.options)
        for block in blocks:
            engine.load_rows(decode_rows(block))
        engine.finish_load()
        engine.check_state()
        assert engine.last_index == index
        self.apply_after(engine, index)
        return engine

    def snapshot(self) -> list[bytes]:
        """The blocks of a snapshot of this moment."""
        walk = self.engine.begin_snapshot()
        blocks: list[bytes] = []
        while rows := walk.next_rows(7):
            blocks.append(encode_rows(rows))
        return blocks

    def assert_replays(self) -> None:
        """Replay from nothing, and from a snapshot of now, give the live state."""
        digest = self.engine.digest()

        assert digest == self.replayed().digest()
        assert digest == self.loaded(self.snapshot(), self.engine.last_index).digest()


def codes_of(reply: Reply) -> list[str]:
    assert isinstance(reply, Settled)
    return [problem.code for problem in reply.problems or []]
