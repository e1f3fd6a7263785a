"""Random lives of an engine: what must hold, holds after every command of every mix."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.engine.random_story import RandomStory


@pytest.mark.parametrize("seed", range(12))
def test_state_replay_and_snapshots_agree_through_a_random_life(seed: int) -> None:
    RandomStory(seed).live(250)


@settings(max_examples=25)
@given(seed=st.integers(min_value=0), steps=st.integers(min_value=1, max_value=120))
def test_short_random_lives_hold_every_invariant(seed: int, steps: int) -> None:
    RandomStory(seed).live(steps)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1_000, 1_200))
def test_long_random_lives_hold_every_invariant(seed: int) -> None:
    RandomStory(seed).live(1_500)
