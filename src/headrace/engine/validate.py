"""What commands must satisfy before anything is decided about them."""

from __future__ import annotations

from headrace.model import limits
from headrace.model.errors import BadRequest, PayloadTooLarge, Unsupported
from headrace.model.job import (
    BACKOFF_LIST,
    BACKOFF_WORDS,
    NAMESPACE,
    JobError,
    JobExtra,
    JobSpec,
    RetryPolicy,
)
from headrace.model.names import check_name
from headrace.model.queue import DURABILITY_WORDS, QueueSettings


def check_range(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise BadRequest(f"{what} is {value}; {low} to {high} is allowed.")


def check_spec(spec: JobSpec) -> None:
    if spec.namespace != NAMESPACE:
        raise Unsupported(
            f"The namespace {spec.namespace[:40]!r} is not known; {NAMESPACE!r} is the only one."
        )
    check_name("queue", spec.queue)
    check_name("kind", spec.kind)
    if len(spec.media_type) > limits.MEDIA_TYPE_BYTES_MAX:
        raise BadRequest(
            f"media_type has {len(spec.media_type)} characters; "
            f"{limits.MEDIA_TYPE_BYTES_MAX} are allowed."
        )
    check_range("timeout_ms", spec.timeout_ms, 0, limits.TIMEOUT_MS_MAX)
    if spec.retry is not None:
        check_policy(spec.retry)


def check_policy(policy: RetryPolicy) -> None:
    check_range("attempt_max", policy.attempt_max, 1, limits.ATTEMPT_MAX_LIMIT)
    check_range("backoff", policy.backoff, 0, len(BACKOFF_WORDS) - 1)
    check_range("base_ms", policy.base_ms, 0, limits.DELAY_MS_MAX)
    check_range("cap_ms", policy.cap_ms, 0, limits.DELAY_MS_MAX)
    check_range("factor_percent", policy.factor_percent, 100, 10_000)
    check_range("crash_max", policy.crash_max, 1, limits.ATTEMPT_MAX_LIMIT)
    if len(policy.delays_ms) > limits.BACKOFF_LIST_MAX:
        raise BadRequest(f"delays_ms has more than {limits.BACKOFF_LIST_MAX} entries.")
    if policy.backoff == BACKOFF_LIST and not policy.delays_ms:
        raise BadRequest("A backoff of kind `list` needs delays_ms.")
    for delay_ms in policy.delays_ms:
        check_range("delays_ms", delay_ms, 0, limits.DELAY_MS_MAX)


def check_extra(extra: JobExtra) -> None:
    if len(extra.key.encode()) > limits.KEY_BYTES_MAX:
        raise BadRequest(f"The idempotency key is longer than {limits.KEY_BYTES_MAX} bytes.")
    check_range("key_window_ms", extra.key_window_ms, 1, limits.KEY_WINDOW_MS_MAX)
    if extra.start_by_ms < 0:
        raise BadRequest("start_by_ms is negative.")
    if len(extra.tags) > limits.TAGS_MAX:
        raise BadRequest(f"The job has {len(extra.tags)} tags; {limits.TAGS_MAX} are allowed.")
    for tag in extra.tags:
        if not 1 <= len(tag.encode()) <= limits.TAG_BYTES_MAX:
            raise BadRequest(f"The tag {tag[:40]!r} is not 1 to {limits.TAG_BYTES_MAX} bytes long.")
    if extra.headers:
        size = sum(
            len(name.encode()) + len(value.encode()) for name, value in extra.headers.items()
        )
        if size > limits.HEADERS_BYTES_MAX:
            raise PayloadTooLarge(
                f"The headers have {size} bytes; {limits.HEADERS_BYTES_MAX} are allowed."
            )


def check_settings(settings: QueueSettings) -> None:
    check_policy(settings.retry)
    check_range("durability", settings.durability, 0, len(DURABILITY_WORDS) - 1)
    check_range("payload_bytes_max", settings.payload_bytes_max, 1, limits.PAYLOAD_BYTES_MAX)
    for name in (
        "succeeded_age_ms",
        "succeeded_count",
        "succeeded_bytes",
        "dead_age_ms",
        "dead_count",
        "dead_bytes",
    ):
        check_range(name, getattr(settings, name), 0, 1 << 53)


def check_delay(delay_ms: int) -> None:
    check_range("delay_ms", delay_ms, 0, limits.DELAY_MS_MAX)


def due_at_ms(now_ms: int, run_at_ms: int, delay_ms: int) -> int:
    """When a job with these is due; 0 means at once. Raises: `BadRequest`."""
    if delay_ms:
        check_delay(delay_ms)
        if run_at_ms:
            raise BadRequest("Give run_at_ms or delay_ms, not both.")
        return now_ms + delay_ms
    if run_at_ms < 0:
        raise BadRequest("run_at_ms is negative.")
    if run_at_ms > now_ms + limits.DELAY_MS_MAX:
        raise BadRequest("run_at_ms lies more than ten years ahead.")
    return run_at_ms if run_at_ms > now_ms else 0


def shortened_error(error: JobError, now_ms: int, attempt: int, worker: str) -> JobError:
    """The error within its limits; of a long traceback, both ends are kept."""
    return JobError(
        error.type[: limits.NAME_BYTES_MAX],
        _cut(error.message, limits.ERROR_MESSAGE_BYTES_MAX),
        _cut(error.traceback, limits.TRACEBACK_BYTES_MAX),
        now_ms,
        attempt,
        error.worker[: limits.NAME_BYTES_MAX] or worker,
        error.retryable,
    )


def _cut(text: str, bytes_max: int) -> str:
    """The text, or its two ends with a note between them; at most about `bytes_max` bytes."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= bytes_max:
        return text
    half = bytes_max // 2 - 20
    missing = len(encoded) - 2 * half
    head = encoded[:half].decode("utf-8", "ignore")
    tail = encoded[-half:].decode("utf-8", "ignore")
    return f"{head}\n… {missing} bytes cut …\n{tail}"
