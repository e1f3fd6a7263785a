"""Settings that all tests share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Shared machines are slow at random: a deadline per example would fail on load, not on faults.
settings.register_profile(
    "headrace",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("headrace")
