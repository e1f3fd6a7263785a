"""How many jobs a worker asks to hold beyond those it runs. Pure.

Theory. A slot that ends a job gets its next one a round trip later, unless one lies here
already. Jobs that finish during two commit times cover that trip with some to spare:
finish rate × 2 × commit time. Where that trip is short beside the job itself (under 2 % of
the time a slot is busy) nothing is held: a job that waits here could run elsewhere.

A rate that the credit itself holds down says nothing, and by it alone credit would creep
up. So a worker that was *starved* (idle until a push came that filled its credit) asks for
several times as much, and goes down again by half of what is too much.
"""

from __future__ import annotations

import math

from headrace.model.limits import (
    PREFETCH_BYTES_MAX,
    PREFETCH_JOBS_MAX,
    SESSION_CREDIT_MAX,
)

_WORTH_IT = 0.02
_GROWTH = 4
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
        self,
        elapsed_s: float,
        finished: int,
        round_trip_s: float,
        payload_bytes: float,
        *,
        starved: bool = False,
    ) -> int | None:
        """The credit to ask for now; None when it is near enough to what was asked.

        `payload_bytes`: of an average job that came since. `starved`: it was idle until a
        push came that filled its credit.
        """
        rate = finished / elapsed_s
        self._rate += (rate - self._rate) / 2
        self._payload_bytes += (payload_bytes - self._payload_bytes) / 2
        wanted = self._concurrency + self._prefetch(round_trip_s, starved)
        if wanted < self.credit:
            wanted = (wanted + self.credit) // 2
        wanted = min(wanted, SESSION_CREDIT_MAX)
        if abs(wanted - self.credit) < max(1, _CHANGE_MIN * self.credit):
            return None
        self.credit = wanted
        return wanted

    def _prefetch(self, round_trip_s: float, starved: bool) -> int:
        on_the_way = self._rate * round_trip_s
        if on_the_way / self._concurrency < _WORTH_IT:
            return 0
        covering = 2 * on_the_way
        if starved:
            covering = max(covering, _GROWTH * max(self.credit - self._concurrency, 1))
        by_bytes = PREFETCH_BYTES_MAX / max(self._payload_bytes, 1.0)
        return int(min(math.ceil(covering), self._prefetch_max, by_bytes))
