"""The bounds that the documents promise, as numbers: changing one is a decision, not an edit."""

from __future__ import annotations

import pytest

from headrace.model import limits
from headrace.model.job import RetryPolicy
from headrace.model.limits import KIB, MIB
from headrace.model.queue import QueueSettings

SECOND_MS = 1_000
HOUR_MS = 3_600 * SECOND_MS
DAY_MS = 24 * HOUR_MS

PROMISED = {
    "PAYLOAD_BYTES_DEFAULT": 1 * MIB,
    "PAYLOAD_BYTES_MAX": 4 * MIB,
    "RESULT_BYTES_MAX": 1 * MIB,
    "ERROR_BYTES_MAX": 16 * KIB,
    "ERRORS_FIRST_KEPT": 9,
    "ERRORS_LAST_KEPT": 9,
    "JOB_LOG_LINES_MAX": 200,
    "JOB_LOG_LINE_BYTES_MAX": 1 * KIB,
    "PROGRESS_INTERVAL_MS": 500,
    "TAGS_MAX": 16,
    "TAG_BYTES_MAX": 64,
    "HEADERS_BYTES_MAX": 4 * KIB,
    "HISTORY_ENTRIES_MAX": 64,
    "NAME_BYTES_MAX": 128,
    "PRIORITY_MAX": 255,
    "PRIORITY_DEFAULT": 100,
    "SNOOZES_MAX": 1_000,
    "RESERVED_RETURNS_MAX": 10,
    "CRASH_MAX": 3,
    "ATTEMPT_MAX_DEFAULT": 8,
    "BACKOFF_BASE_MS_DEFAULT": 2 * SECOND_MS,
    "BACKOFF_CAP_MS_DEFAULT": HOUR_MS,
    "JOBS_PER_CALL_MAX": 10_000,
    "CALL_BYTES_MAX": 8 * MIB,
    "STEP_JOBS_MAX": 1_000,
    "KEY_WINDOW_MS_DEFAULT": DAY_MS,
    "KEY_WINDOW_MS_MAX": 7 * DAY_MS,
    "QUEUES_MAX": 10_000,
    "SUCCEEDED_AGE_MS": DAY_MS,
    "SUCCEEDED_COUNT": 10_000,
    "SUCCEEDED_BYTES": 64 * MIB,
    "DEAD_AGE_MS": 30 * DAY_MS,
    "DEAD_COUNT": 100_000,
    "DEAD_BYTES": 256 * MIB,
    "FINISHED_NODE_BYTES": 512 * MIB,
    "REMEMBER_MS": 120 * SECOND_MS,
    "REPEAT_MS": 60 * SECOND_MS,
    "LEASE_MS_DEFAULT": 30 * SECOND_MS,
    "HEARTBEATS_PER_LEASE": 3,
    "STARTED_LOG_AFTER_MS": 100,
    "RECALL_AFTER_MS": 1 * SECOND_MS,
    "TIMEOUT_GRACE_MS": 10 * SECOND_MS,
    "SEGMENT_BYTES_DEFAULT": 16 * MIB,
    "SNAPSHOTS_KEPT": 2,
    "ASYNC_WINDOW_MS_MAX": 100,
    "COMMIT_BYTES_MAX": 8 * MIB,
    "COMMIT_COMMANDS_MAX": 4_096,
    "WALL_SLEW_MS_MAX": 60 * SECOND_MS,
    "FRAME_BYTES_MAX": 8 * MIB + 64 * KIB,
    "HANDSHAKE_MS_MAX": 5 * SECOND_MS,
    "PORT_DEFAULT": 7431,
    "PREFETCH_JOBS_MAX": 1_024,
    "PREFETCH_BYTES_MAX": 8 * MIB,
    "KILL_AFTER_MS": 5 * SECOND_MS,
}


@pytest.mark.parametrize("name", PROMISED)
def test_bound_is_the_one_that_was_promised(name: str) -> None:
    assert getattr(limits, name) == PROMISED[name]


def test_new_queue_retries_and_keeps_as_promised() -> None:
    policy, queue = RetryPolicy(), QueueSettings()

    assert (policy.attempt_max, policy.base_ms, policy.cap_ms) == (8, 2_000, HOUR_MS)
    assert (policy.factor_percent, policy.jitter, policy.crash_max) == (200, True, 3)
    assert (queue.succeeded_age_ms, queue.succeeded_count) == (DAY_MS, 10_000)
    assert (queue.dead_age_ms, queue.dead_count) == (30 * DAY_MS, 100_000)
