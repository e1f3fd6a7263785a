"""How many jobs a worker asks to hold beyond those it runs. Pure.

Theory. A slot that ends a job gets its next one a round trip later, unless one lies here
already. Jobs that finish during two commit times cover that trip with some to spare:
finish rate × 2 × commit time. Where that trip is short beside the job itself (under 2 % of
the time a slot is busy) nothing is held: a job that waits here could run elsewhere.
"""

from __future__ import annotations

import math

from headrace.model.limits import (
    PREFETCH_BYTES_MAX,
    PREFETCH_JOBS_MAX,
    SESSION_CREDIT_MAX,
)

_WORTH_IT = 0.02
_CHANGE_MIN = 0.25
"""Smaller changes of credit are not worth a call."""


class Prefetch:
    """Fed once in a while with what happened since; then says the credit to ask for."""

    def __init__(self, concurrency: int, prefetch_max: int = PREFETCH_JOBS_MAX) -> None:
        self._concurrency = concurrency
        self._prefetch_max = prefetch_max
        self._rate = 0.0
        self._payload_bytes = 0.0
        self.credit = concurrency
        """Asked for last."""

    def note(
        self, elapsed_s: float, finished: int, round_trip_s: float, payload_bytes: float
    ) -> int | None:
        """The credit to ask for now; None when it is near enough to what was asked.

        `payload_bytes`: of an average job that came since.
        """
        rate = finished / elapsed_s
        self._rate += (rate - self._rate) / 2
        self._payload_bytes += (payload_bytes - self._payload_bytes) / 2
        wanted = min(self._concurrency + self._prefetch(round_trip_s), SESSION_CREDIT_MAX)
        if abs(wanted - self.credit) < max(1, _CHANGE_MIN * self.credit):
            return None
        self.credit = wanted
        return wanted

    def _prefetch(self, round_trip_s: float) -> int:
        on_the_way = self._rate * round_trip_s
        if on_the_way / self._concurrency < _WORTH_IT:
            return 0
        by_bytes = PREFETCH_BYTES_MAX / max(self._payload_bytes, 1.0)
        return int(min(math.ceil(2 * on_the_way), self._prefetch_max, by_bytes))
