"""Everything that can be asked of a server, drawn at random: sensible, stale, and wrong.

A verb makes one command out of what its asker knows. It decides nothing about the answer;
checkers do, from the history.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

import msgspec

from headrace.model import commands as c
from headrace.model.ids import make_job_id, slot_of_queue
from headrace.model.job import (
    BACKOFF_FIXED,
    FINAL_STATES,
    JobError,
    JobExtra,
    JobSpec,
    RetryPolicy,
    State,
)
from headrace.model.queue import QueueSettings
from headrace.sim.conditions import KINDS, LEASE_MS, ORPHAN_KIND, QUEUES

Lease = tuple[bytes, int]
RECENT = 40
POLICIES = (
    None,
    None,
    RetryPolicy(attempt_max=2, backoff=BACKOFF_FIXED, base_ms=0, jitter=False),
    RetryPolicy(attempt_max=3, base_ms=50, cap_ms=400, crash_max=2),
)


class Asker(Protocol):
    """What a verb may know of who asks, and of the world."""

    session_id: bytes
    leases: list[Lease]
    """Of this asker, live or not, oldest first."""

    @property
    def ids(self) -> list[bytes]:
        """Of every job that anybody has asked for."""

    @property
    def asked(self) -> list[c.Enqueue]:
        """Every enqueue of this life, to be repeated or contradicted."""

    @property
    def strangers(self) -> list[Lease]:
        """Leases of others."""

    def wall_ms(self) -> int: ...


Build = Callable[[Asker, random.Random], c.Command | None]


class Verb(msgspec.Struct, frozen=True):
    weight: int
    build: Build
    by_session: bool = False
    """Asked over the connection of a session only."""


# --- producing


def new_id(asker: Asker, dice: random.Random, queue: str) -> bytes:
    return make_job_id(asker.wall_ms(), slot_of_queue(queue), dice.randbytes(8))


def spec(dice: random.Random) -> JobSpec:
    kind = ORPHAN_KIND if dice.random() < 0.03 else dice.choice(KINDS)
    timeout_ms = dice.choice((0, 0, 0, 900))
    return JobSpec(dice.choice(QUEUES), kind, retry=dice.choice(POLICIES), timeout_ms=timeout_ms)


def payload(dice: random.Random) -> bytes:
    if dice.random() < 0.03:
        return b"no JSON" * dice.choice((1, 60))
    return b'{"n":%d}' % dice.randrange(1_000)


def extra(asker: Asker, dice: random.Random) -> JobExtra | None:
    if dice.random() < 0.6:
        return None
    return JobExtra(
        key=dice.choice(("", "", "a", "b", "c")),
        key_window_ms=dice.choice((1, 500, 5_000, 86_400_000)),
        start_by_ms=dice.choice((0, 0, 0, asker.wall_ms() + dice.randrange(1, 3_000))),
        tags=dice.choice(((), ("red",))),
        headers=dice.choice((None, {"trace": "1"})),
    )


def new_job(asker: Asker, dice: random.Random, queue: str, spec_no: int) -> c.NewJob:
    return c.NewJob(
        new_id(asker, dice, queue) if dice.random() < 0.97 else b"",
        spec_no,
        payload(dice),
        dice.choice((100, 100, 100, 0, 255, 101)),
        delay_ms=dice.choice((0, 0, 0, 5, 700, 4_000)),
        extra=extra(asker, dice),
    )


def enqueue(asker: Asker, dice: random.Random) -> c.Command:
    specs = [spec(dice) for _ in range(dice.choice((1, 1, 2)))]
    jobs = []
    for _ in range(dice.choice((1, 1, 1, 3, 10))):
        spec_no = dice.randrange(len(specs))
        jobs.append(new_job(asker, dice, specs[spec_no].queue, spec_no))
    if dice.random() < 0.05:
        jobs[-1].priority = 256
    return c.Enqueue(specs, jobs, atomic=dice.random() < 0.3)


def enqueue_again(asker: Asker, dice: random.Random) -> c.Command | None:
    """A call once more, as after a lost answer; or its ids with other content."""
    if not asker.asked:
        return None
    before = dice.choice(asker.asked[-RECENT:])
    jobs = [msgspec.structs.replace(job) for job in before.jobs if job.job_id]
    if not jobs:
        return None
    if dice.random() < 0.3:
        jobs[0].payload += b" "
    return c.Enqueue(before.specs, jobs, before.atomic, resend=dice.random() < 0.5)


# --- holding


def claim(asker: Asker, dice: random.Random) -> c.Command:
    return c.Claim(
        tuple(dice.sample(QUEUES, dice.randint(1, 3))),
        tuple(dice.sample(KINDS, dice.randint(1, 3))),
        dice.choice((1, 1, 2, 5, 50)),
        dice.choice((LEASE_MS, 10_000)),
        dice.choice((0, 0, 300)),
    )


def some_leases(asker: Asker, dice: random.Random) -> list[Lease]:
    """Mostly newer ones of its own, so that many are live."""
    chance = dice.random()
    leases = asker.leases[-RECENT:] if chance < 0.85 else asker.leases
    if chance > 0.95:
        leases = asker.strangers[-RECENT:]
    return dice.sample(leases, min(len(leases), dice.choice((1, 1, 2, 4))))


def ack(asker: Asker, dice: random.Random) -> c.Command | None:
    leases = some_leases(asker, dice)
    result = dice.choice((None, b'"done"'))
    return c.Ack([(*lease, result) for lease in leases]) if leases else None


def nack(asker: Asker, dice: random.Random) -> c.Command | None:
    failures = [
        c.Failure(
            *lease,
            JobError("E", "m" * dice.choice((1, 1_000))),
            dice.random() < 0.8,
            dice.choice((-1, -1, 0, 300)),
        )
        for lease in some_leases(asker, dice)
    ]
    return c.Nack(failures) if failures else None


def release(asker: Asker, dice: random.Random) -> c.Command | None:
    returns = [
        c.Return(*lease, dice.choice((0, 0, 250)), dice.random() < 0.3)
        for lease in some_leases(asker, dice)
    ]
    return c.Release(returns) if returns else None


def extend(asker: Asker, dice: random.Random) -> c.Command | None:
    leases = some_leases(asker, dice)
    return c.Extend(leases, LEASE_MS) if leases else None


def start(asker: Asker, dice: random.Random) -> c.Command | None:
    leases = some_leases(asker, dice)
    return c.Started(leases) if leases else None


def progress(asker: Asker, dice: random.Random) -> c.Command | None:
    leases = some_leases(asker, dice)
    return c.Progress(*leases[0], b'"half"') if leases else None


def log_lines(asker: Asker, dice: random.Random) -> c.Command | None:
    leases = some_leases(asker, dice)
    return c.LogLines(*leases[0], ["line"] * dice.choice((1, 3))) if leases else None


# --- changing


def some_id(asker: Asker, dice: random.Random) -> bytes:
    return dice.choice(asker.ids[-RECENT:] or [bytes(16)])


def cancel(asker: Asker, dice: random.Random) -> c.Command:
    return c.Cancel(some_id(asker, dice), dice.choice(("", "why")))


def reschedule(asker: Asker, dice: random.Random) -> c.Command:
    return c.Reschedule(some_id(asker, dice), 0, dice.choice((0, 40, 2_000)))


def change_priority(asker: Asker, dice: random.Random) -> c.Command:
    return c.ChangePriority(some_id(asker, dice), dice.choice((0, 100, 101, 255)))


def revive(asker: Asker, dice: random.Random) -> c.Command:
    return c.Revive(some_id(asker, dice), dice.choice((0, 0, 100)))


def delete(asker: Asker, dice: random.Random) -> c.Command:
    return c.Delete(some_id(asker, dice))


def purge(asker: Asker, dice: random.Random) -> c.Command:
    states = (State.SCHEDULED, State.READY, *sorted(FINAL_STATES))
    return c.Purge(dice.choice(QUEUES), tuple(dice.sample(states, dice.randint(1, 3))))


def configure(asker: Asker, dice: random.Random) -> c.Command:
    settings = QueueSettings(
        retry=dice.choice((RetryPolicy(cap_ms=4_000), RetryPolicy(attempt_max=4, base_ms=10))),
        durability=dice.choice((0, 1, 1, 2)),
        succeeded_age_ms=dice.choice((300, 86_400_000)),
        succeeded_count=dice.choice((0, 3, 10_000)),
        dead_age_ms=dice.choice((1_000, 86_400_000)),
        dead_count=dice.choice((2, 10_000)),
        dead_bytes=dice.choice((2_000, 1 << 20)),
    )
    return c.ConfigureQueue(dice.choice(QUEUES), settings)


def pause(asker: Asker, dice: random.Random) -> c.Command:
    return c.PauseQueue(dice.choice(QUEUES))


def resume(asker: Asker, dice: random.Random) -> c.Command:
    return c.ResumeQueue(dice.choice(QUEUES))


# --- sessions


def open_session(asker: Asker, dice: random.Random) -> c.Command:
    return c.OpenSession(
        asker.session_id,
        "bare",
        "sim",
        1,
        "",
        tuple(dice.sample(KINDS, dice.randint(1, 3))),
        tuple(dice.sample(QUEUES, dice.randint(1, 3))),
        dice.randrange(1, 8),
        dice.random() < 0.3,
        LEASE_MS,
    )


def set_credit(asker: Asker, dice: random.Random) -> c.Command:
    return c.SetCredit(asker.session_id, dice.randrange(8))


def heartbeat(asker: Asker, dice: random.Random) -> c.Command:
    return c.Heartbeat(asker.session_id)


def resume_session(asker: Asker, dice: random.Random) -> c.Command:
    held = [c.HeldLease(*lease, dice.random() < 0.5) for lease in asker.leases[-5:]]
    return c.ResumeSession(asker.session_id, held, dice.randrange(1, 8))


def close_session(asker: Asker, dice: random.Random) -> c.Command:
    return c.CloseSession(asker.session_id, "bye")


# --- reading


def get_job(asker: Asker, dice: random.Random) -> c.Command:
    return c.GetJob(some_id(asker, dice), dice.random() < 0.5)


def list_jobs(asker: Asker, dice: random.Random) -> c.Command:
    return c.ListJobs(
        queue=dice.choice(("", *QUEUES)),
        states=dice.choice(((), (State.READY,), (State.DEAD, State.CANCELLED))),
        tag=dice.choice(("", "red")),
        limit=dice.choice((1, 7, 100)),
    )


def wait_job(asker: Asker, dice: random.Random) -> c.Command:
    return c.WaitJob(some_id(asker, dice), dice.choice((0, 500, 5_000)))


def watch(asker: Asker, dice: random.Random) -> c.Command:
    return c.Watch([some_id(asker, dice) for _ in range(dice.randint(1, 3))])


def explain(asker: Asker, dice: random.Random) -> c.Command:
    return c.ExplainJob(some_id(asker, dice))


def read_around(asker: Asker, dice: random.Random) -> c.Command:
    return dice.choice(
        (c.GetQueue(dice.choice(QUEUES)), c.ListQueues(), c.ListSessions(), c.GetStats())
    )


def flush(asker: Asker, dice: random.Random) -> c.Command:
    return c.Flush()


VERBS: dict[str, Verb] = {
    "enqueue": Verb(20, enqueue),
    "enqueue_again": Verb(4, enqueue_again),
    "claim": Verb(10, claim),
    "ack": Verb(14, ack),
    "nack": Verb(8, nack),
    "release": Verb(6, release),
    "extend": Verb(2, extend),
    "start": Verb(6, start),
    "progress": Verb(2, progress),
    "log_lines": Verb(2, log_lines),
    "cancel": Verb(4, cancel),
    "reschedule": Verb(4, reschedule),
    "change_priority": Verb(3, change_priority),
    "revive": Verb(4, revive),
    "delete": Verb(3, delete),
    "purge": Verb(1, purge),
    "configure": Verb(1, configure),
    "pause": Verb(1, pause),
    "resume": Verb(3, resume),
    "open_session": Verb(5, open_session, by_session=True),
    "set_credit": Verb(3, set_credit, by_session=True),
    "heartbeat": Verb(8, heartbeat, by_session=True),
    "resume_session": Verb(3, resume_session, by_session=True),
    "close_session": Verb(1, close_session, by_session=True),
    "get_job": Verb(4, get_job),
    "list_jobs": Verb(2, list_jobs),
    "wait_job": Verb(3, wait_job),
    "watch": Verb(2, watch),
    "explain": Verb(2, explain),
    "read_around": Verb(2, read_around),
    "flush": Verb(1, flush),
}
ALWAYS_ASKED = ("enqueue", "get_job", "list_jobs", "wait_job", "watch", "read_around")
"""They need nothing, and what a life may lack (claims, acks) is not among them."""
