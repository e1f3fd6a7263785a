"""Deciding enqueue: which jobs are new, which are known, which are refused."""

from __future__ import annotations

from headrace.engine.finished import unpack
from headrace.engine.job import READY, SCHEDULED
from headrace.engine.keys import digest_of, scope_of
from headrace.engine.splitmix import SplitMix
from headrace.engine.state import EngineState
from headrace.engine.turn import Turn
from headrace.engine.validate import check_extra, check_range, check_spec, due_at_ms
from headrace.model import limits
from headrace.model.commands import Enqueue, NewJob
from headrace.model.errors import (
    BadRequest,
    BatchTooLarge,
    ClientError,
    HeadraceError,
    IdConflict,
    KeyConflict,
    LimitReached,
    MemoryFull,
    PayloadTooLarge,
)
from headrace.model.ids import ID_BYTES, id_to_text, make_job_id, slot_of_queue
from headrace.model.job import JobSpec
from headrace.model.records import EnqueuedJob, JobsEnqueued
from headrace.model.replies import Enqueued, Existing, Problem


class _Call:
    """One enqueue call while it is looked at: nothing is emitted before all of it is."""

    __slots__ = (
        "accepted",
        "bytes",
        "command",
        "count",
        "existing",
        "ids",
        "ids_made",
        "keys",
        "payload_max",
        "problems",
        "random",
        "seed",
        "spec_errors",
        "turn",
    )

    def __init__(self, turn: Turn, command: Enqueue, seed: int) -> None:
        self.turn = turn
        self.command = command
        self.seed = seed
        self.random: SplitMix | None = None
        """Made when the first job needs a name."""
        self.accepted: dict[int, list[EnqueuedJob]] = {}
        """By position of the spec, in order of the call."""
        self.count = 0
        self.bytes = 0
        self.existing: list[Existing] = []
        self.problems: list[Problem] = []
        self.ids: dict[bytes, tuple[NewJob, JobSpec, int]] = {}
        """Of accepted jobs, with the state that they will have."""
        self.keys: dict[bytes, tuple[bytes, bytes]] = {}
        """Scope → (job id, digest), of keys that this very call takes."""
        self.ids_made = 0
        """Jobs of this call that the server had to name."""
        self.spec_errors = _spec_errors(turn, command.specs)
        self.payload_max = [_payload_max(turn, spec) for spec in command.specs]


def enqueue(turn: Turn, command: Enqueue, seed: int) -> Enqueued:
    """Each new job is in a record; known ones and refused ones are named in the reply.

    Raises: `BatchTooLarge`, `MemoryFull`, or, when `atomic`, whatever refuses one job.
    """
    _check_size(command)
    call = _Call(turn, command, seed)
    for position, job in enumerate(command.jobs):
        try:
            _look_at(call, position, job)
        except ClientError as error:
            if command.atomic:
                error.details.setdefault("position", position)
                raise
            call.problems.append(Problem(position, error.code, error.message, error.hint))
    check_room(turn.state, call.count, call.bytes)
    for spec_no, jobs in call.accepted.items():
        turn.emit(JobsEnqueued(command.specs[spec_no], jobs))
    return Enqueued(
        existing=call.existing or None,
        problems=call.problems or None,
        made_ids=[job.job_id for job in command.jobs] if call.ids_made else None,
    )


def _check_size(command: Enqueue) -> None:
    count = len(command.jobs)
    if count > limits.JOBS_PER_CALL_MAX or len(command.specs) > limits.JOBS_PER_CALL_MAX:
        raise BatchTooLarge(
            f"The call has {count} jobs; {limits.JOBS_PER_CALL_MAX} are allowed.",
            hint="Split it.",
        )
    if count == 1:
        return  # its queue bounds its payload
    size_bytes = sum([len(job.payload) for job in command.jobs])
    if size_bytes > limits.CALL_BYTES_MAX:
        raise BatchTooLarge(
            f"The call has {size_bytes} bytes of payload; {limits.CALL_BYTES_MAX} are allowed.",
            hint="Split it.",
        )


def _spec_errors(turn: Turn, specs: list[JobSpec]) -> list[ClientError | None]:
    """For each spec, what refuses every job that has it."""
    if len(specs) == 1 and specs[0] in turn.state.specs:
        return [None]
    new_queues: dict[str, None] = {}
    return [_spec_error(turn, spec, new_queues) for spec in specs]


def _spec_error(turn: Turn, spec: JobSpec, new_queues: dict[str, None]) -> ClientError | None:
    state = turn.state
    if spec in state.specs:
        return None
    try:
        check_spec(spec)
        if spec.queue not in state.queues:
            new_queues[spec.queue] = None
        if spec.queue in new_queues and len(state.queues) + len(new_queues) > limits.QUEUES_MAX:
            raise LimitReached(
                f"There are {limits.QUEUES_MAX} queues already; {spec.queue!r} would be one more.",
                hint="Use fewer queues; kinds, tags and priorities need none of their own.",
            )
        if len(state.specs) >= limits.SPECS_MAX or len(state.lanes) >= limits.LANES_MAX:
            raise LimitReached(
                f"Live jobs have {limits.SPECS_MAX} different combinations of queue, kind, "
                "retry policy and timeout already.",
                hint="Give jobs of one kind the same policy and timeout.",
            )
    except ClientError as error:
        return error
    return None


def _payload_max(turn: Turn, spec: JobSpec) -> int:
    queue = turn.state.queues.get(spec.queue)
    settings = turn.state.options.default_queue if queue is None else queue.settings
    return settings.payload_bytes_max


def _look_at(call: _Call, position: int, job: NewJob) -> None:
    """Sort one job of the call into accepted or existing. Raises: what refuses it."""
    spec = _spec_of(call, job)
    known = _known(call, job, spec)
    if known is not None:
        call.existing.append(Existing(position, known[0], known[1]))
        return
    _check_job(call, job, spec)
    run_at_ms = 0
    if job.run_at_ms or job.delay_ms:
        run_at_ms = due_at_ms(call.turn.now_ms, job.run_at_ms, job.delay_ms)
    if job.extra is not None and job.extra.key:
        holder = _take_key(call, job, spec)
        if holder is not None:
            call.existing.append(Existing(position, holder, _state_of(call, holder)))
            return
    call.ids[job.job_id] = (job, spec, SCHEDULED if run_at_ms else READY)
    call.count += 1
    call.bytes += len(job.payload)
    accepted = call.accepted.get(job.spec)
    if accepted is None:
        accepted = call.accepted[job.spec] = []
    accepted.append(EnqueuedJob(job.job_id, job.payload, job.priority, run_at_ms, job.extra))


def _spec_of(call: _Call, job: NewJob) -> JobSpec:
    specs = call.command.specs
    if not 0 <= job.spec < len(specs):
        raise BadRequest(f"A job names spec {job.spec}; the call has {len(specs)}.")
    error = call.spec_errors[job.spec]
    if error is not None:
        raise error
    return specs[job.spec]


def _known(call: _Call, job: NewJob, spec: JobSpec) -> tuple[bytes, int] | None:
    """(id, state) when this very job is there already. Raises: `IdConflict`, `BadRequest`."""
    job_id = job.job_id
    if len(job_id) != ID_BYTES:
        if job_id:
            raise BadRequest(f"A job id has {len(job_id)} bytes; {ID_BYTES} are needed.")
        _make_id(call, job, spec)
        return None
    state = call.turn.state
    live = state.jobs.shards[job_id[-1]].get(job_id)
    if live is not None:
        same = live.payload == job.payload and (live.spec.queue, live.spec.kind) == (
            spec.queue,
            spec.kind,
        )
        return _same_or_conflict(job_id, same, live.state)
    packed = state.ended.shards[job_id[-1]].get(job_id)
    if packed is not None:
        finished = unpack(packed)
        same = finished.payload == job.payload and (
            finished.spec.queue,
            finished.spec.kind,
        ) == (spec.queue, spec.kind)
        return _same_or_conflict(job_id, same, finished.state)
    known = state.remembered.get(job_id)
    if known is not None:
        return job_id, known.state
    twin = call.ids.get(job_id)
    if twin is not None:
        same = twin[0].payload == job.payload and twin[1] == spec
        return _same_or_conflict(job_id, same, twin[2])
    return None


def _same_or_conflict(job_id: bytes, same: bool, state: int) -> tuple[bytes, int]:
    if same:
        return job_id, state
    raise IdConflict(
        f"Job {id_to_text(job_id)} exists already with another queue, kind or payload.",
        hint="Make a new id for a new job; repeat a call with exactly what it had.",
    )


def _make_id(call: _Call, job: NewJob, spec: JobSpec) -> None:
    """The server names the job, from the command's seed."""
    if call.random is None:
        call.random = SplitMix(call.seed)
    random_bytes = call.random.next_u64().to_bytes(8, "big")
    job.job_id = make_job_id(call.turn.now_ms, slot_of_queue(spec.queue), random_bytes)
    call.ids_made += 1


def _check_job(call: _Call, job: NewJob, spec: JobSpec) -> None:
    if not 0 <= job.priority <= limits.PRIORITY_MAX:
        check_range("priority", job.priority, 0, limits.PRIORITY_MAX)
    bytes_max = call.payload_max[job.spec]
    if len(job.payload) > bytes_max:
        raise PayloadTooLarge(
            f"The payload of a job of kind {spec.kind!r} has {len(job.payload)} bytes; "
            f"queue {spec.queue!r} allows {bytes_max}.",
            hint="Store big data elsewhere and enqueue a reference to it.",
        )
    if job.extra is not None:
        check_extra(job.extra)


def _take_key(call: _Call, job: NewJob, spec: JobSpec) -> bytes | None:
    """The id of the job that holds the key already; None when it is this call's now."""
    assert job.extra is not None
    scope = scope_of(spec.queue, spec.kind, job.extra.key)
    digest = digest_of(job.payload)
    taken = call.turn.state.keys.get(scope, call.turn.now_ms)
    holder = (taken.job_id, taken.digest) if taken is not None else call.keys.get(scope)
    if holder is None:
        if len(call.turn.state.keys) + len(call.keys) >= limits.KEYS_MAX:
            raise LimitReached(f"{limits.KEYS_MAX} idempotency keys are taken.")
        call.keys[scope] = (job.job_id, digest)
        return None
    if holder[1] != digest:
        raise KeyConflict(
            f"The key {job.extra.key!r} of kind {spec.kind!r} in queue {spec.queue!r} belongs "
            f"to job {id_to_text(holder[0])}, which has another payload.",
            hint="Use another key for another payload, or wait until its window has passed.",
        )
    return holder[0]


def _state_of(call: _Call, job_id: bytes) -> int:
    """0 when nothing is known of it any more: keys outlive the jobs that took them."""
    if job_id in call.ids:
        return call.ids[job_id][2]
    live = call.turn.live(job_id)
    if live is not None:
        return live.state
    known = call.turn.remembered(job_id)
    return 0 if known is None else known.state


def check_room(state: EngineState, count: int, size_bytes: int) -> None:
    """Raises: `MemoryFull` when so many jobs more would not fit."""
    options = state.options
    if count and state.payload_bytes + size_bytes > options.payload_memory_bytes:
        raise _memory_full(state, f"{options.payload_memory_bytes} bytes of payload")
    if count and count + state.job_count > options.jobs_max:
        raise _memory_full(state, f"{options.jobs_max} jobs")


def _memory_full(state: EngineState, bound: str) -> HeadraceError:
    queues = state.queues
    largest = max(queues.values(), key=lambda queue: queue.payload_bytes, default=None)
    holder = "" if largest is None else f" Queue {largest.name!r} holds most of them."
    return MemoryFull(
        f"Waiting jobs have reached the limit of {bound}.{holder}",
        hint="Add workers, purge what is not needed, or raise the limit.",
        retry_after_ms=1_000,
    )
