"""Processes that stand still and go on: nobody loses by it, except a lease that was over.

The stories of this file are told at the same time: most of each is waiting.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace.model.limits import OWNER_UNRESPONSIVE_MS
from tests.e2e.crash import stops
from tests.e2e.crash.kills import Tally

pytestmark = pytest.mark.proof

LEASE_MS = 4_000
SERVER_STOP_S = LEASE_MS / 1_000 + 1
OWNER_STOP_S = OWNER_UNRESPONSIVE_MS / 1_000 + 1


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Tally]]]:
    seed = random.SystemRandom().getrandbits(32)
    server, owner, workers = (tmp_path_factory.mktemp(name) for name in ("s", "o", "w"))
    with ThreadPoolExecutor(3) as pool:
        yield {
            "server": pool.submit(
                stops.server_stands_still, server, seed, [SERVER_STOP_S], LEASE_MS
            ),
            "owner": pool.submit(stops.owner_stands_still, owner, seed, [OWNER_STOP_S], LEASE_MS),
            "workers": pool.submit(stops.workers_stand_still, workers, seed, 2),
        }


def test_server_that_stood_still_under_load_takes_no_lease(told: dict[str, Future[Tally]]) -> None:
    assert told["server"].result()["servers stood still"] == 1


def test_owner_that_stood_still_keeps_its_directory_and_takes_no_lease(
    told: dict[str, Future[Tally]],
) -> None:
    assert told["owner"].result()["owners stood still"] == 1


def test_workers_that_stood_still_beyond_their_leases_change_nothing(
    told: dict[str, Future[Tally]],
) -> None:
    assert told["workers"].result()["leases lost by standing still"] > 0


@pytest.mark.long
@pytest.mark.timeout(600)
def test_server_that_stood_still_for_half_a_minute_takes_no_lease(
    tmp_path: Path, seed: int
) -> None:
    stops.server_stands_still(tmp_path, seed, [30.0])


@pytest.mark.long
@pytest.mark.timeout(600)
def test_disk_that_stood_still_takes_no_lease(tmp_path: Path, seed: int) -> None:
    stops.disk_stands_still(tmp_path, seed, SERVER_STOP_S, LEASE_MS)
