"""Retry: how often a job is tried, how long it waits, and which failures end it at once.

Attempts and waiting travel with the job and are decided by the engine; which exceptions
are worth another attempt is known only here, where the exception classes are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from headrace.client.durations import Duration, duration_ms
from headrace.model import limits
from headrace.model.errors import BadRequest
from headrace.model.job import BACKOFF_LIST, BACKOFF_WORDS, RetryPolicy

Backoff = Literal["fixed", "linear", "exponential"]
Failures = tuple[type[BaseException], ...]


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """`Retry(attempts=8, base="1s", cap="10m", give_up_on=(ValueError,))`."""

    attempts: int = limits.ATTEMPT_MAX_DEFAULT
    """Attempts in all, the first one included; 1 is no retry."""
    backoff: Backoff = "exponential"
    base: Duration = limits.BACKOFF_BASE_MS_DEFAULT / 1_000
    """Wait before the second attempt."""
    factor: float = 2.0
    """Of `exponential`: each wait is this many times the one before."""
    cap: Duration = limits.BACKOFF_CAP_MS_DEFAULT / 1_000
    jitter: bool = True
    """Draw each wait evenly from 0 to what the rule says, so that failures spread out."""
    delays: Sequence[Duration] = ()
    """The waits themselves, instead of `backoff`; the last one is repeated."""
    crashes: int = limits.CRASH_MAX
    """Attempts that may end with a lost worker."""
    give_up_on: Failures = ()
    """Exceptions that make the job dead at once."""
    retry_on: Failures | None = None
    """When given, only these are worth another attempt."""

    def policy(self) -> RetryPolicy:
        """As the engine knows it. Raises: `BadRequest` naming the field that is wrong."""
        self._check()
        return RetryPolicy(
            attempt_max=self.attempts,
            backoff=BACKOFF_LIST if self.delays else BACKOFF_WORDS.index(self.backoff),
            base_ms=duration_ms(self.base, "retry base"),
            factor_percent=round(self.factor * 100),
            cap_ms=duration_ms(self.cap, "retry cap"),
            jitter=self.jitter,
            delays_ms=tuple(duration_ms(delay, "retry delay") for delay in self.delays),
            crash_max=self.crashes,
        )

    def is_retryable(self, error: BaseException) -> bool:
        if isinstance(error, self.give_up_on):
            return False
        return self.retry_on is None or isinstance(error, self.retry_on)

    def _check(self) -> None:
        if not 1 <= self.attempts <= limits.ATTEMPT_MAX_LIMIT:
            raise BadRequest(
                f"Retry attempts is {self.attempts}; it must be 1 to {limits.ATTEMPT_MAX_LIMIT}."
            )
        if self.backoff not in BACKOFF_WORDS[:BACKOFF_LIST]:
            raise BadRequest(
                f"Retry backoff {self.backoff!r} is not known; use fixed, linear or exponential, "
                "or give delays."
            )
        if len(self.delays) > limits.BACKOFF_LIST_MAX:
            raise BadRequest(f"Retry delays has more than {limits.BACKOFF_LIST_MAX} entries.")
        if self.factor < 1:
            raise BadRequest(f"Retry factor is {self.factor}; it must be at least 1.")
