"""Replies: what is returned. Also the answer bodies of the wire protocol.

Every reply begins with the index that it observed and the durability it has; it leaves
when that index is durable. Fields are only appended, with defaults.
"""

from __future__ import annotations

import msgspec

from headrace.model.job import NAMESPACE, JobError, JobHistoryEntry, RetryPolicy
from headrace.model.queue import DURABILITY_GROUP, QueueSettings


class Reply(msgspec.Struct, array_like=True, gc=False):
    """Base of all replies. Every field has a default, so that fields can be appended."""

    index: int = 0
    durability: int = DURABILITY_GROUP


class Problem(msgspec.Struct, array_like=True, gc=False):
    """A refusal of one item of a call."""

    position: int
    code: str
    message: str
    hint: str = ""


class Existing(msgspec.Struct, array_like=True, gc=False):
    """An item that was already there: the first job answers for it, `created = false`."""

    position: int
    job_id: bytes
    state: int


class Done(Reply):
    """It happened; there is nothing more to say."""


class Enqueued(Reply):
    """Items neither in `existing` nor in `problems` were created."""

    existing: list[Existing] | None = None
    problems: list[Problem] | None = None
    made_ids: list[bytes] | None = None
    """Ids in order of the call, when the server made any of them."""


class Settled(Reply):
    """Answer to ack, nack and release: items not in `problems` are done."""

    problems: list[Problem] | None = None


class Changed(Reply):
    """Answer to a change of one job: the state it has now."""

    state: int = 0
    cancel_requested: bool = False


class Purged(Reply):
    count: int = 0
    more: bool = False


class PushedJob(msgspec.Struct, array_like=True, gc=False):
    job_id: bytes
    attempt: int
    payload: bytes
    headers: dict[str, str] | None = None
    priority: int = 100
    tags: tuple[str, ...] = ()
    snooze_count: int = 0


class PushedGroup(msgspec.Struct, array_like=True, gc=False):
    """Jobs of one claim that share a spec."""

    token: int
    queue: str
    kind: str
    media_type: str
    timeout_ms: int
    attempt_max: int
    jobs: list[PushedJob]


class Claimed(Reply):
    groups: list[PushedGroup] = []


class SessionOpen(Reply):
    session_id: bytes = b""
    lease_ms: int = 0
    heartbeat_ms: int = 0


VERDICT_KEEP = 0
VERDICT_DROP = 1
"""The lease is not this worker's any more: forget the job, say nothing of it."""
VERDICT_CANCEL = 2


class SessionResumed(Reply):
    """`verdicts` answer `ResumeSession.held` one by one."""

    verdicts: list[int] = []


class HeartbeatSeen(Reply):
    reconcile: bool = False
    """Counts and digests differed twice: resume now."""


class JobView(msgspec.Struct, array_like=True, gc=False):
    """A job as a reader sees it."""

    job_id: bytes
    queue: str
    kind: str
    state: int
    priority: int
    attempt: int
    attempt_max: int
    enqueued_at_ms: int
    run_at_ms: int = 0
    leased_at_ms: int = 0
    ended_at_ms: int = 0
    started: bool = False
    cancel_requested: bool = False
    token: int = 0
    worker: str = ""
    media_type: str = ""
    payload_bytes: int = 0
    payload: bytes | None = None
    result: bytes | None = None
    timeout_ms: int = 0
    start_by_ms: int = 0
    key: str = ""
    tags: tuple[str, ...] = ()
    headers: dict[str, str] | None = None
    errors: list[JobError] = []
    errors_dropped: int = 0
    reason: str = ""
    """Why a dead or cancelled job is so."""
    progress: bytes | None = None
    log_lines: list[str] = []
    snooze_count: int = 0
    crash_count: int = 0
    history: list[JobHistoryEntry] = []
    retry: RetryPolicy | None = None
    namespace: str = NAMESPACE


class JobReply(Reply):
    job: JobView | None = None


class JobPage(Reply):
    jobs: list[JobView] = []
    cursor: bytes = b""
    """Empty when there is no more."""


class Reason(msgspec.Struct, array_like=True, gc=False):
    """One thing that keeps a job from running, and what would free it."""

    code: str
    sentence: str
    remedy: str = ""


class Explanation(Reply):
    job_id: bytes = b""
    state: int = 0
    summary: str = ""
    reasons: list[Reason] = []


class QueueView(msgspec.Struct, array_like=True, gc=False):
    queue: str
    paused: bool
    scheduled: int
    blocked: int
    ready: int
    leased: int
    succeeded: int
    """Succeeded and cancelled jobs still kept."""
    dead: int
    unroutable: int
    """Ready jobs of kinds that no session handles."""
    oldest_ready_ms: int
    """Age of the job that would be served first; 0 when none is ready."""
    payload_bytes: int
    finished_bytes: int
    enqueued_total: int
    succeeded_total: int
    failed_total: int
    dead_total: int
    cancelled_total: int
    settings: QueueSettings
    namespace: str = NAMESPACE


class QueueReply(Reply):
    queue: QueueView | None = None


class QueuePage(Reply):
    queues: list[QueueView] = []
    cursor: bytes = b""


class SessionView(msgspec.Struct, array_like=True, gc=False):
    session_id: bytes
    name: str
    host: str
    pid: int
    build: str
    kinds: tuple[str, ...]
    queues: tuple[str, ...]
    credit: int
    leased: int
    running: int
    opened_at_ms: int
    connected: bool
    last_seen_ms: int
    """Since its last heartbeat."""
    loop_lag_ms: int
    stalled: bool
    stuck_slots: int


class SessionPage(Reply):
    sessions: list[SessionView] = []
    cursor: bytes = b""


class StatsReply(Reply):
    """Counters and histograms under the names that Prometheus will have."""

    counters: dict[str, int] = {}
    gauges: dict[str, float] = {}
    histograms: dict[str, dict[str, float]] = {}
