"""Histograms against sorted lists."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.runtime.stats import SECONDS_BOUNDS, Histogram


@given(st.lists(st.floats(1e-6, 20), min_size=1, max_size=300), st.sampled_from([0.5, 0.9, 0.99]))
def test_quantile_is_at_most_one_bound_above_the_true_one(
    values: list[float], share: float
) -> None:
    histogram = Histogram(SECONDS_BOUNDS)
    for value in values:
        histogram.observe(value)
    true = sorted(values)[max(0, -(-int(share * 1000 * len(values)) // 1000) - 1)]
    found = histogram.quantile(share)
    assert found >= true * 0.999 or found == histogram.highest
    if SECONDS_BOUNDS[0] < true < SECONDS_BOUNDS[-1]:
        assert found <= true * 1.61


def test_empty_histogram_shows_zeros() -> None:
    view = Histogram(SECONDS_BOUNDS).view()
    assert (view["count"], view["p50"], view["p99"], view["max"]) == (0, 0, 0, 0)


def test_view_has_cumulative_counts() -> None:
    histogram = Histogram((1.0, 2.0, 4.0))
    for value in (0.5, 1.0, 1.5, 3.0, 9.0):
        histogram.observe(value)
    view = histogram.view()
    assert [view["le=1"], view["le=2"], view["le=4"]] == [2, 3, 4]
    assert (view["count"], view["sum"], view["max"]) == (5, pytest.approx(15.0), 9.0)


def test_bounds_are_close_enough_for_percentiles() -> None:
    pairs = itertools.pairwise(SECONDS_BOUNDS)
    assert all(1 < after / before <= 1.61 for before, after in pairs)
