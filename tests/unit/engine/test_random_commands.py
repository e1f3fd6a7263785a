"""Random lives of an engine: what must hold, holds after every command of every mix."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.engine.random_story import RandomStory


@pytest.mark.parametrize("seed", range(12))
def test_state_replay_and_snapshots_agree_through_a_random_life(seed: int) -> None:
    RandomStory(seed).live(250)


FAILED_ONCE = [(8, 250), (11, 250), (5_007, 600), (5_022, 600)]
"""(seed, steps) of lives that found something: they are lived again for ever."""


@pytest.mark.parametrize(("seed", "steps"), FAILED_ONCE)
def test_life_that_failed_once_holds_now(seed: int, steps: int) -> None:
    RandomStory(seed).live(steps)


@settings(max_examples=25)
@given(seed=st.integers(min_value=0), steps=st.integers(min_value=1, max_value=120))
def test_short_random_lives_hold_every_invariant(seed: int, steps: int) -> None:
    RandomStory(seed).live(steps)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1_000, 1_200))
def test_long_random_lives_hold_every_invariant(seed: int) -> None:
    RandomStory(seed).live(1_500)
