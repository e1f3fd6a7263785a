"""The catalogue of log events: what each means, and how grave it is.

An event is named noun-verb in the past tense and never renamed, since people alert on it.
Facts are fields whose names end in their unit. `docs/reference/events.md` is generated
from this table, and a test compares it with every report in the source.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple


class Event(NamedTuple):
    level: Literal["debug", "info", "warning", "error"]
    fields: tuple[str, ...]
    meaning: str
    """What happened, and what an operator should do about it, if anything."""


EVENTS: Mapping[str, Event] = {
    "client_refused": Event(
        "warning",
        ("code", "client_name"),
        "A client could not open its connection: wrong or missing token, or no protocol version"
        " in common. Many of them from one place: somebody tries.",
    ),
    "connection_lost": Event(
        "warning",
        ("url", "message"),
        "A worker lost its connection and comes back by itself; its jobs run on meanwhile.",
    ),
    "connection_refused": Event(
        "warning",
        ("connections_max",),
        "There are as many connections as `server.connections_max` allows. Raise it, and the"
        " limit of open files with it.",
    ),
    "disk_full": Event(
        "error",
        ("room_bytes",),
        "The disk is nearly full: new jobs are refused with `disk_full`, acks are still taken."
        " Give it room; nothing needs a restart.",
    ),
    "disk_has_room": Event("info", ("room_bytes",), "New jobs are taken again."),
    "handler_overrun": Event(
        "warning",
        ("job_id", "kind", "stopped_by"),
        "A handler did not stop after its timeout or a cancel. A thread cannot be killed: its slot"
        ' stays taken until it returns. Use `executor="process"` for handlers that may hang.',
    ),
    "hook_failed": Event(
        "error",
        ("job_id", "kind", "error"),
        "A hook of the application raised. The job is not affected.",
    ),
    "job_dead": Event(
        "error",
        ("job_id", "kind", "attempt", "error", "message"),
        "A job failed for the last time. `headrace job show` has its errors, `headrace dead retry`"
        " brings it back.",
    ),
    "job_failed": Event(
        "warning",
        ("job_id", "kind", "attempt", "error", "message"),
        "An attempt failed; the job is tried again after its backoff.",
    ),
    "leader_failed": Event(
        "error",
        ("error", "kind"),
        "The log may have lost what memory holds, or an invariant does not hold. This engine is"
        " given up; a server ends with the exit code that names the cause.",
    ),
    "log_idle_failed": Event(
        "warning",
        ("error",),
        "Work that a log does at leisure, such as allocating the next segment, failed; it is"
        " done later, when it must be.",
    ),
    "log_refused": Event(
        "warning",
        ("error",),
        "The log certainly did not write a commit; its callers were refused and may try again.",
    ),
    "log_stalled": Event(
        "warning",
        ("stalled_ms",),
        "A commit took this long to become durable. Leases and timeouts stood still meanwhile."
        " Look at the disk.",
    ),
    "loop_paused": Event(
        "warning",
        ("paused_ms",),
        "The process did not run for this long: a stopped or overcommitted machine, or a turn"
        " that was too long. Leases and timeouts stood still meanwhile.",
    ),
    "message_not_sent": Event(
        "error",
        ("message", "why"),
        "A reply or push could not be written in the wire format, and its asker got `internal`:"
        " a bug in headrace. Please report it.",
    ),
    "node_leads": Event(
        "info",
        ("epoch", "last_index", "record_count", "dropped_bytes", "seconds", "async_window_ms"),
        "The server has recovered and takes calls. `record_count` were replayed after the"
        " snapshot in `seconds`; `dropped_bytes` is the torn end that a crash left, set aside in"
        " `lost+found`; an `async` queue can lose `async_window_ms`.",
    ),
    "open_files_limited": Event(
        "warning",
        ("open_files_max", "connections_max", "wanted", "remedy"),
        "The limit of open files is too low for `server.connections_max`, which was lowered to"
        " `connections_max`. `remedy` is the command that raises it.",
    ),
    "release_failed": Event(
        "warning",
        ("error",),
        "An application could not leave its directory in good order; its next owner recovers.",
    ),
    "server_absent": Event(
        "warning",
        ("url", "message"),
        "A worker found no server when it started, and goes on trying.",
    ),
    "server_drains": Event(
        "info",
        ("deadline_ms",),
        "The server is stopping; the worker finishes what it runs and comes back later.",
    ),
    "server_ready": Event("info", ("urls",), "The server listens on `urls`."),
    "server_stopped": Event(
        "info", (), "All that was acknowledged is durable, and the log is closed."
    ),
    "server_stopping": Event(
        "info",
        ("drain_ms", "connections"),
        "A stop was asked for; workers have `drain_ms` to finish. A second signal stops at once.",
    ),
    "session_lost": Event(
        "warning",
        ("session_id", "jobs"),
        "The server no longer knew the session of this worker: it was away for longer than its"
        " lease. `jobs` of them were dropped and run elsewhere.",
    ),
    "settle_lost": Event(
        "warning",
        ("jobs", "code", "message"),
        "A worker could not tell the server how jobs ended, for a minute. Their leases expire"
        " and they may run again.",
    ),
    "settle_refused": Event(
        "warning",
        ("job_id", "kind", "code", "message"),
        "The server did not take an ack, nack or release. With `stale_lease` the job was given"
        " to somebody else meanwhile.",
    ),
    "silent_peer_disconnected": Event(
        "info",
        ("silent_ms",),
        "Nothing came from a peer for so long that it is taken for gone. Its session and leases"
        " live on until they expire.",
    ),
    "slow_reader_disconnected": Event(
        "warning",
        ("unsent_bytes",),
        "A peer took nothing of what was written to it for a minute.",
    ),
    "snapshot_failed": Event(
        "warning",
        ("index", "error"),
        "A snapshot could not be finished, most often for want of disk space. The log stays and"
        " grows; it is tried again.",
    ),
    "snapshot_published": Event(
        "info",
        ("index", "size_bytes", "duration_ms"),
        "State is on the disk up to `index`; older log can go.",
    ),
    "take_over_refused": Event(
        "warning",
        ("error",),
        "An application found its directory without an owner, and the disk without the room to"
        " own it. It tries again; its calls wait. Free some space.",
    ),
    "wall_clock_jumped": Event(
        "warning",
        ("jump_ms", "followed_ms"),
        "The wall clock jumped and boot time does not confirm it. Only `followed_ms` of it is"
        " followed until the next start. Check the time service of the machine.",
    ),
    "worker_connected": Event("info", ("session_id", "url"), "The worker has its session."),
    "worker_drained": Event(
        "info",
        ("finished", "waited_for", "left"),
        "A worker that stops has acked or nacked `finished` jobs in its life, and has waited for"
        " the handlers that still ran; `left` did not end in time, and are cancelled and handed"
        " back.",
    ),
}
