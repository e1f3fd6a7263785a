"""Processes that stand still and go on: nobody loses by it, except a lease that was over."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.model.limits import OWNER_UNRESPONSIVE_MS
from tests.e2e.crash import stops

LEASE_MS = 4_000


def test_server_that_stood_still_under_load_takes_no_lease(tmp_path: Path, seed: int) -> None:
    stops.server_stands_still(tmp_path, seed, [LEASE_MS / 1_000 + 1], LEASE_MS)


def test_owner_that_stood_still_under_load_keeps_its_directory_and_takes_no_lease(
    tmp_path: Path, seed: int
) -> None:
    stops.owner_stands_still(tmp_path, seed, [OWNER_UNRESPONSIVE_MS / 1_000 + 1], LEASE_MS)


def test_workers_that_stood_still_beyond_their_leases_change_nothing(
    tmp_path: Path, seed: int
) -> None:
    tally = stops.workers_stand_still(tmp_path, seed, 2)
    assert tally["leases lost by standing still"] > 0


@pytest.mark.long
@pytest.mark.timeout(600)
def test_server_that_stood_still_for_half_a_minute_takes_no_lease(
    tmp_path: Path, seed: int
) -> None:
    stops.server_stands_still(tmp_path, seed, [30.0])
