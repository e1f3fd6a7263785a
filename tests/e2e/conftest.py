"""What the end-to-end tests share: seeds, and what to do where a machine does not allow a fault."""

from __future__ import annotations

import os
import random
from collections.abc import Generator

import pytest

from tests.e2e.crash.rights import DoesNotRun


@pytest.fixture
def seed() -> int:
    """Drawn and printed; HEADRACE_SEED runs one again (the interleaving is the machine's)."""
    given = os.environ.get("HEADRACE_SEED")
    drawn = int(given) if given else random.SystemRandom().getrandbits(32)
    print(f"HEADRACE_SEED={drawn}")
    return drawn


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """What needs a right that this machine does not give is skipped; in CI, what lacks only a
    package has failed."""
    try:
        return (yield)
    except DoesNotRun as error:
        if error.lack.is_package and os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
