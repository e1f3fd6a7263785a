"""Every bound of the system, with its unit in its name and the reason for its value.

A value that a user may change has its default here and its field in `settings.py`.
Relations between bounds are asserted at the end.
"""

from __future__ import annotations

from headrace.model.errors import invariant

KIB = 1024
MIB = 1024 * KIB

# --- jobs
PAYLOAD_BYTES_DEFAULT = 1 * MIB
PAYLOAD_BYTES_MAX = 4 * MIB
"""Hard limit: a job must fit a commit with room for what surrounds it."""
RESULT_BYTES_MAX = 1 * MIB
ERROR_BYTES_MAX = 16 * KIB
"""One error as kept: type, message and traceback together, each with a bound of its own."""
TRACEBACK_BYTES_MAX = 4 * KIB
"""Cut in the middle: both the entry and the place of the fault are kept."""
ERROR_MESSAGE_BYTES_MAX = 2 * KIB
ERRORS_FIRST_KEPT = 9
ERRORS_LAST_KEPT = 9
ERRORS_BYTES_MAX = 32 * KIB
"""All errors of one job together."""
JOB_LOG_LINES_MAX = 200
JOB_LOG_LINE_BYTES_MAX = 1 * KIB
PROGRESS_BYTES_MAX = 4 * KIB
PROGRESS_INTERVAL_MS = 500
"""Latest wins, at most two a second a job."""
TAGS_MAX = 16
TAG_BYTES_MAX = 64
HEADERS_BYTES_MAX = 4 * KIB
HISTORY_ENTRIES_MAX = 64
KEY_BYTES_MAX = 256
MEDIA_TYPE_BYTES_MAX = 128
NAME_BYTES_MAX = 128
"""Queues and kinds."""
PRIORITY_MAX = 255
PRIORITY_DEFAULT = 100
SNOOZES_MAX = 1_000
"""Releases of a started job: a job that only ever snoozes must show itself."""
RESERVED_RETURNS_MAX = 10
"""Leases that ended before their job started; then it is dead as `never_started`."""
CRASH_MAX = 3
TIMEOUT_MS_MAX = 30 * 24 * 3600 * 1000
DELAY_MS_MAX = 10 * 366 * 24 * 3600 * 1000

# --- retries
ATTEMPT_MAX_DEFAULT = 8
ATTEMPT_MAX_LIMIT = 1_000
BACKOFF_BASE_MS_DEFAULT = 2_000
BACKOFF_CAP_MS_DEFAULT = 3_600_000
BACKOFF_LIST_MAX = 64

# --- calls
JOBS_PER_CALL_MAX = 10_000
CALL_BYTES_MAX = 8 * MIB
CLAIM_JOBS_MAX = 1_024
"""Jobs of one claim record; a session with more credit is served in several."""
CLAIM_BYTES_MAX = 4 * MIB
"""Payload and headers of one claim; a larger job goes alone. The reply must fit a frame."""
PAGE_ROWS_MAX = 1_000
PAGE_ROWS_DEFAULT = 100
PAGE_SCAN_ROWS_MAX = 10_000
"""Rows that one read may look at in a turn; the cursor goes on from there."""
STEP_JOBS_MAX = 1_000
"""Jobs that purge, expiry, promotion and pruning touch in one turn."""
WAIT_MS_MAX = 60 * 60 * 1000

# --- keys
KEY_WINDOW_MS_DEFAULT = 24 * 3600 * 1000
KEY_WINDOW_MS_MAX = 7 * 24 * 3600 * 1000
KEYS_MAX = 10_000_000

# --- queues and node
QUEUES_MAX = 10_000
KINDS_PER_SESSION_MAX = 1_000
QUEUES_PER_SESSION_MAX = 1_000
SPECS_MAX = 100_000
"""Distinct (queue, kind, media type, policy, timeout) of live jobs."""
LANES_MAX = 100_000
"""Combinations of queue and kind that jobs and sessions have named; they stay for good."""
JOBS_MAX_DEFAULT = 20_000_000
PAYLOAD_MEMORY_BYTES_DEFAULT = 4 * 1024 * MIB
"""Payloads, headers, errors and log lines of live jobs; beyond it, `memory_full`."""

# --- finished jobs
SUCCEEDED_AGE_MS = 24 * 3600 * 1000
SUCCEEDED_COUNT = 10_000
SUCCEEDED_BYTES = 64 * MIB
DEAD_AGE_MS = 30 * 24 * 3600 * 1000
DEAD_COUNT = 100_000
DEAD_BYTES = 256 * MIB
FINISHED_NODE_BYTES = 512 * MIB
REMEMBER_MS = 120_000
"""An id is known this long after its job ended, whatever retention says."""
REPEAT_MS = 60_000
"""SDKs stop repeating a call after this; must stay below `REMEMBER_MS`."""

# --- leases
LEASE_MS_DEFAULT = 30_000
LEASE_MS_MIN = 1_000
LEASE_MS_MAX = 24 * 3600 * 1000
HEARTBEATS_PER_LEASE = 3
RECOVERY_GRACE_MS = 5_000
"""No lease ends sooner after a recovery, however short it is: its holder may be waiting to
connect again, longer each time."""
STARTED_LOG_AFTER_MS = 100
"""A job still running after this has its start written to the log."""
RECALL_AFTER_MS = 1_000
TIMEOUT_GRACE_MS = 10_000
"""The server's back-stop ends a job this long after its own timeout."""
SESSION_CREDIT_MAX = 10_000
SESSIONS_MAX = 20_000
DEADLINE_STEP_MS = 100
"""Leases and timeouts end within this after their deadline; also how often a busy node looks."""
DEADLINE_RECHECK_MS = 60_000
"""A job with a longer timeout is looked at this often, so that ended jobs leave the books."""
STALLED_LAG_MS = 2_000
"""A worker whose loop has not moved for so long is shown as stalled."""
RECALL_SESSIONS_MAX = 8
"""Busy workers that are looked at in one turn, those that hold most first."""
RECALL_JOBS_MAX = 256
"""Jobs asked back from busy workers at a time."""

# --- commits and the log
COMMIT_BYTES_MAX = 8 * MIB
"""A commit is sealed at the first command that reaches it; see COMMIT_BODY_BYTES_MAX."""
COMMIT_COMMANDS_MAX = 4_096
COMMIT_BODY_BYTES_MAX = 2 * CALL_BYTES_MAX + COMMIT_BYTES_MAX
"""A command is never split: the largest commit is one just under the seal plus one call."""
SEGMENT_BYTES_DEFAULT = 16 * MIB
SEGMENT_BYTES_MIN = 1 * MIB
SNAPSHOT_BLOCK_BYTES_MAX = 8 * MIB
"""Blocks aim at SNAPSHOT_BLOCK_BYTES; one row (a job with all its errors) may exceed that."""
SNAPSHOT_BLOCK_BYTES = 256 * KIB
SNAPSHOT_SYNC_BYTES = 4 * MIB
"""Synced to the disk after each: one sync at the end delays commits by 70 ms, this by 4 ms."""
SNAPSHOT_PAUSE_MS = 10
SNAPSHOTS_KEPT = 2
SNAPSHOT_WAL_BYTES_MIN = 256 * MIB
SNAPSHOT_AGE_MS_MAX = 3_600_000
SEGMENT_BYTES_FLOOR = 4 * KIB
"""What a segment needs to work at all; tests use such small ones."""
WATERMARK_WRITE_MS = 10
"""Under load; also when the log is idle. After every commit it would cost 15 % of them."""
WATERMARK_SYNC_MS = 1_000
COPY_TRIES_MAX = 5
"""Beginnings of a backup that the leader's truncation overtakes."""
READ_ONLY_TRIES_MAX = 10
"""Looks at a directory that another process changes meanwhile, before believing damage."""
DISK_RESERVE_BYTES = 64 * MIB
"""Below segment room and this, new jobs are refused, acks still taken."""
PENDING_BYTES_MAX = 32 * MIB
PENDING_COMMANDS_MAX = 50_000
ASYNC_WINDOW_MS_MAX = 100
WALL_SLEW_MS_MAX = 60_000
CLOCK_BACKWARD_MS_MAX = 24 * 3600 * 1000
LOG_STALL_MS = 500
"""While one append takes longer, no lease and no timeout runs; below the shortest lease."""
PENDING_RESERVE_PERCENT = 50
"""Room beyond PENDING_* that acks and other ends of work have to themselves."""
REFUSED_RETRY_MS = 200
"""After this the log is asked again to take a commit that it refused."""
DISK_CHECK_MS = 1_000
ROOM_LOOK_MS = 100
"""How often a busy log is asked how much room is left. A disk that fills faster refuses the
append itself; the room kept for acks is two segments and DISK_RESERVE_BYTES."""
SNAPSHOT_SLICE_US = 1_000
"""Longest that a snapshot holds up the loop at a time."""
SNAPSHOT_SLICE_PAUSE_MS = 2
"""Between two slices: a snapshot takes at most a third of the loop."""
STOP_QUIET_MS = 10_000
"""A stop waits so long for a log that takes nothing; then callers get `outcome_unknown`."""
LOG_IDLE_MS = 50
"""After so long without a commit the log may do what it has put off."""
SNAPSHOT_BLOCKS_AHEAD = 4
"""Blocks that may wait for the disk; then the walk waits too."""
SNAPSHOT_RETRY_MS = 60_000
MAINTAIN_WAIT_MS_MAX = 60_000
"""The loop's timers stand still while the machine sleeps; log time does not."""
CLOCK_SLEW_PERCENT = 10
"""By how much log time may run faster or slower than time to meet the wall clock."""
GIVE_WAY_US = 30
"""What a busy loop waits at the end of a turn for the I/O thread to get the interpreter."""

# --- wire
FRAME_BYTES_MAX = 8 * MIB + 64 * KIB
"""A call of CALL_BYTES_MAX and its envelope."""
HELLO_BYTES_MAX = 64 * KIB
HANDSHAKE_MS_MAX = 5_000
CONNECTIONS_MAX = 12_000
IN_FLIGHT_PER_CONNECTION_MAX = 65_536
WATCHES_PER_CONNECTION_MAX = 65_536
"""Live jobs of whose end one connection is told; about 400 bytes each."""
WRITE_BUFFER_BYTES_MAX = 16 * MIB
"""A peer that lets more pile up is not read from until it drains."""
SLOW_READER_MS_MAX = 60_000
"""A peer that drains nothing for this long is disconnected."""
LISTEN_BACKLOG = 4_096
TOKEN_BYTES_MAX = 512
READ_BUFFER_BYTES = 64 * KIB
"""One for all connections of a loop: what a read brings is used up before the next. Also
bounds what one turn takes from one connection: about 400 small calls, some milliseconds."""
WRITE_CHUNK_BYTES = 64 * KIB
"""Frames collect in chunks of this size; a larger one is handed to the socket by itself."""
PUSH_BYTES = 1 * MIB
"""A push with more payload than this is sent as several frames."""
PING_AFTER_MS = 15_000
"""A connection on which nothing came for so long is asked for a sign of life."""
SILENCE_MS_MAX = 45_000
"""A peer of which nothing came for so long is gone; both ends count alone."""
PORT_DEFAULT = 7431
CLIENT_WRITE_BUFFER_BYTES = 4 * MIB
"""Calls beyond it stay with the client until the socket has taken what is there."""
BACKOFF_RECONNECT_MS_MIN = 10
UNFINISHED_BYTES_MAX = 512 * MIB
"""Frames of all connections that have begun and not ended; peers that begin and never end
must not fill the memory."""
OPEN_FILES_RESERVED = 64
"""Descriptors that a server needs beside its connections."""

# --- client and worker
CONNECT_MS = 5_000
BACKOFF_RECONNECT_MS_MAX = 2_000
PREFETCH_JOBS_MAX = 1_024
PREFETCH_BYTES_MAX = 8 * MIB
CONCURRENCY_DEFAULT = 100
CONCURRENCY_MAX = 8_000
DRAIN_MS_DEFAULT = 30_000
KILL_AFTER_MS = 5_000
OWNER_UNRESPONSIVE_MS = 5_000
HAND_OVER_PAUSE_MS = 5_000
"""An embedded owner that was asked for its directory does not take it again before."""
SUCCESSION_PAUSE_MS = 200
"""After an owner that ended in good order: whoever asked for the directory comes first."""
PREDECESSOR_MS = 1_000
"""What the last owner of a directory gets to close its socket, once its lock is free."""
SUCCESSION_RETRY_MS = 50
"""Between two looks for the new owner of a directory; many fit the second it may take."""
BULK_JOBS = 1_000
"""Jobs of one chunk of a bulk enqueue: a turn stays short, a commit worth its fsync."""
BULK_CALLS_MAX = 4
"""Chunks in flight at a time."""
RESULT_WAIT_MS = 30_000
"""A wait for a result is asked again after this; within the time a call may be repeated."""
WORKER_YIELD_JOBS = 64
"""Jobs that a runner finishes before the loop gets its turn."""
WORKER_YIELD_US = 1_000
LOG_VALUE_CHARACTERS_MAX = 2_048
"""Of one field of a log line: a stack trace fits, a payload that slipped in does not."""

invariant(REPEAT_MS * 2 <= REMEMBER_MS, "an id outlives every repeat of its call")
invariant(PAYLOAD_BYTES_MAX + MIB < COMMIT_BYTES_MAX, "a job with all its fields fits a commit")
invariant(CALL_BYTES_MAX < FRAME_BYTES_MAX, "a call of full size fits a frame")
invariant(
    NAME_BYTES_MAX * 2 + ERROR_MESSAGE_BYTES_MAX + TRACEBACK_BYTES_MAX <= ERROR_BYTES_MAX,
    "the parts of an error stay within its bound",
)
invariant(ERROR_BYTES_MAX < ERRORS_BYTES_MAX, "one error fits the room for all")
invariant(
    2 * BACKOFF_RECONNECT_MS_MAX < RECOVERY_GRACE_MS, "who connects again still has its leases"
)
invariant(LOG_STALL_MS < LEASE_MS_MIN, "a stall is seen before a lease can end in it")
