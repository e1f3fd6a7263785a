"""Identity: an id names one job, and so does a key within its window, across restarts."""

from __future__ import annotations

from collections import defaultdict

from headrace.model.limits import REMEMBER_MS, REPEAT_MS
from headrace.sim.checkers.asked import EXISTING, REFUSED, Item
from headrace.sim.checkers.base import Breaches, Checker, Life, name_of
from headrace.sim.checkers.ledger import ABSENT, DELETED, KEPT, LIVE, PRUNED, JobStory, Step
from headrace.sim.history import NEVER, Event, Happened, Recorded


class OneJobAnId(Checker):
    """A repeated enqueue finds the job that is there, also a while after its end."""

    invariants = ("I8",)
    clauses = (1, 5)
    promise = "An id names one job for as long as a call may be repeated; others are refused."

    def breaches(self, life: Life) -> Breaches:
        asleep = [event.at_ns for event in life.history.events if _is_sleep(event)]
        for story in life.ledger.stories.values():
            for step in story.steps:
                if step.verb == "enqueue":
                    yield from self._made(step, asleep)
        for job_id, items in life.asked.of_job.items():
            for item in items:
                if item.verb != "enqueue" or not item.index:
                    continue
                if item.outcome == EXISTING and item.existing.job_id == job_id:  # type: ignore[union-attr]
                    yield from self._known(life, item, job_id)
                elif item.outcome == REFUSED and item.code == "id_conflict":
                    yield from self._conflict(life, item, job_id)

    def _made(self, step: Step, asleep: list[int]) -> Breaches:
        job_id = step.job.job_id
        if step.was in KEPT:
            yield self.violation("enqueued twice", *_enqueues(step.job), job_id=job_id)
        elif step.was in (DELETED, PRUNED):
            since_ms = step.now_ms - step.ended_at_ms
            passed_ms = _passed_ms(step, asleep)
            if since_ms < REMEMBER_MS or passed_ms < REPEAT_MS:
                message = f"enqueued anew {min(since_ms, passed_ms)} ms after its end"
                yield self.violation(message, *_enqueues(step.job), job_id=job_id)

    def _known(self, life: Life, item: Item, job_id: bytes) -> Breaches:
        state = life.ledger.state_at(job_id, item.index)
        assert item.existing is not None
        if state == ABSENT:
            yield self.violation("answered as existing, and is not", item.call, job_id=job_id)
        elif state in KEPT and state != item.existing.state:
            message = f"answered as in state {item.existing.state}, and is in {state}"
            yield self.violation(message, item.call, job_id=job_id)
        elif state in KEPT and not _same(life, item, job_id):
            yield self.violation("answered for other content", item.call, job_id=job_id)

    def _conflict(self, life: Life, item: Item, job_id: bytes) -> Breaches:
        twins = [job for job in item.call.command.jobs if job.job_id == job_id]  # type: ignore[attr-defined]
        if len(twins) > 1 or not item.call.reply:
            return
        state = life.ledger.state_at(job_id, item.index)
        if state not in KEPT or _same(life, item, job_id):
            yield self.violation("refused as another job, and it is not", item.call, job_id=job_id)


def _same(life: Life, item: Item, job_id: bytes) -> bool:
    """The content that counts: payload, queue and kind."""
    step, spec = life.ledger.stories[job_id].at(item.index), item.spec
    return (
        spec is not None
        and step is not None
        and step.payload == item.new_job.payload
        and (step.spec.queue, step.spec.kind) == (spec.queue, spec.kind)
    )


_NOTICED_NS = 20_000_000_000
"""A sleep shows in log time, and a record as durable, only when disk and process let them."""


def _is_sleep(event: Event) -> bool:
    return type(event) is Happened and event.what == "suspend"


def _passed_ms(step: Step, asleep: list[int]) -> int:
    """Time that has passed since its last end, as clients count it: log time may have jumped
    over a stop. While a machine sleeps time does pass; how much is not told here."""
    steps, until_ns = step.job.steps, step.event.at_ns
    for one in reversed(steps[: steps.index(step)]):
        if one.was in LIVE and one.to not in LIVE:
            since_ns = one.event.at_ns
            known = NEVER not in (since_ns, until_ns)
            begin_ns = since_ns - _NOTICED_NS
            if known and not any(begin_ns <= at_ns <= until_ns for at_ns in asleep):
                return (until_ns - since_ns) // 1_000_000
            break
    return REMEMBER_MS


def _enqueues(story: JobStory) -> list[Recorded]:
    return [step.event for step in story.steps if step.verb == "enqueue"]


class _Holding:
    """One key, held by one job for a while."""

    __slots__ = ("expires_at_ms", "from_index", "job_id", "payload", "step", "to_index")

    def __init__(self, step: Step) -> None:
        self.step = step
        self.job_id = step.job.job_id
        self.payload = step.payload
        self.expires_at_ms = step.now_ms + step.extra.key_window_ms
        self.from_index = step.index
        self.to_index = 1 << 62
        """From this index on the key is free: its job was deleted, or another took it."""


class OneJobAKey(Checker):
    """Scope of a key: queue, kind, key. It is taken until its window has passed, also when
    its job has ended; a deleted job frees it."""

    invariants = ("I8",)
    clauses = (5,)
    promise = "Within its window a key has one job, whatever restarts; who asks again gets it."

    def breaches(self, life: Life) -> Breaches:
        held: defaultdict[tuple[str, str, str], list[_Holding]] = defaultdict(list)
        for step in life.ledger.steps:
            if step.verb in ("enqueue", "delete") and step.extra.key:
                scope = (step.spec.queue, step.spec.kind, step.extra.key)
                if step.verb == "enqueue":
                    yield from self._take(held[scope], step)
                else:
                    _free(held[scope], step)
        for items in life.asked.of_job.values():
            for item in items:
                if item.verb == "enqueue" and item.index:
                    yield from self._answered(life, held, item)

    def _take(self, holdings: list[_Holding], step: Step) -> Breaches:
        if holdings and holdings[-1].to_index > step.index:
            before = holdings[-1]
            if before.expires_at_ms > step.now_ms:
                message = f"took the key {step.extra.key!r} of {name_of(before.job_id)}"
                yield self.violation(message, before.step.event, step.event, job_id=step.job.job_id)
            before.to_index = step.index
        holdings.append(_Holding(step))

    def _answered(
        self, life: Life, held: dict[tuple[str, str, str], list[_Holding]], item: Item
    ) -> Breaches:
        by_key = item.existing is not None and item.existing.job_id != item.job_id
        # A whole call that is refused does not say in its code which item it was.
        conflict = item.code == "key_conflict" and item.call.reply is not None
        spec, extra = item.spec, item.new_job.extra
        if not (by_key or conflict) or spec is None:
            return
        key = extra.key if extra is not None else ""
        holder = _holder(held.get((spec.queue, spec.kind, key), []), item.index)
        if holder is None:
            message = f"answered for the key {key!r}, which was free"
            yield self.violation(message, item.call, job_id=item.job_id)
        elif by_key and item.existing.job_id != holder.job_id:  # type: ignore[union-attr]
            message = f"another job than {name_of(holder.job_id)} answered for the key {key!r}"
            yield self.violation(message, item.call, holder.step.event, job_id=item.job_id)
        elif by_key and holder.payload != item.new_job.payload:
            message = f"the key {key!r} answered for another payload"
            yield self.violation(message, item.call, holder.step.event, job_id=item.job_id)
        elif by_key and holder.expires_at_ms <= life.ledger.now_at(item.index):
            message = f"the key {key!r} answered after its window"
            yield self.violation(message, item.call, holder.step.event, job_id=item.job_id)
        elif conflict and holder.payload == item.new_job.payload:
            message = f"the key {key!r} was in conflict with its own payload"
            yield self.violation(message, item.call, holder.step.event, job_id=item.job_id)


def _free(holdings: list[_Holding], step: Step) -> None:
    if holdings and holdings[-1].job_id == step.job.job_id:
        holdings[-1].to_index = step.index


def _holder(holdings: list[_Holding], index: int) -> _Holding | None:
    for holding in reversed(holdings):
        if holding.from_index <= index < holding.to_index:
            return holding
    return None
