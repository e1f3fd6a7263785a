"""SIGTERM under load: server and workers end in order, and no job pays for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.crash.drains import ACTS, all_are_asked_to_stop

pytestmark = pytest.mark.proof


def test_nothing_runs_twice_when_server_and_workers_are_asked_to_stop(
    tmp_path: Path, seed: int
) -> None:
    all_are_asked_to_stop(tmp_path, seed, len(ACTS))


@pytest.mark.long
@pytest.mark.timeout(600)
def test_nothing_runs_twice_however_often_they_are_asked(tmp_path: Path, seed: int) -> None:
    all_are_asked_to_stop(tmp_path, seed, 8 * len(ACTS))
