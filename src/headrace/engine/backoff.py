"""How long a job waits before its next attempt."""

from __future__ import annotations

from headrace.engine.splitmix import SplitMix
from headrace.model.job import (
    BACKOFF_EXPONENTIAL,
    BACKOFF_FIXED,
    BACKOFF_LINEAR,
    RetryPolicy,
)


def backoff_ms(policy: RetryPolicy, attempt: int, seed: int) -> int:
    """The delay after the failure of `attempt` (1-based), jitter included.

    Full jitter draws evenly from 0 to the policy's delay: of all kinds of jitter it
    spreads a herd best (Brooker, "Exponential backoff and jitter", AWS 2015).
    """
    delay_ms = _nominal_ms(policy, attempt)
    return SplitMix(seed).below(delay_ms + 1) if policy.jitter else delay_ms


def _nominal_ms(policy: RetryPolicy, attempt: int) -> int:
    if policy.backoff == BACKOFF_FIXED:
        delay_ms = policy.base_ms
    elif policy.backoff == BACKOFF_LINEAR:
        delay_ms = policy.base_ms * attempt
    elif policy.backoff == BACKOFF_EXPONENTIAL:
        delay_ms = _grown_ms(policy, attempt)
    else:
        delays = policy.delays_ms
        return delays[min(attempt, len(delays)) - 1]
    return min(delay_ms, policy.cap_ms)


def _grown_ms(policy: RetryPolicy, attempt: int) -> int:
    """Integer steps, stopped at the cap: a thousandth attempt needs no big number."""
    delay_ms = policy.base_ms
    for _ in range(attempt - 1):
        delay_ms = delay_ms * policy.factor_percent // 100
        if delay_ms >= policy.cap_ms or policy.factor_percent == 100:
            break
    return delay_ms
