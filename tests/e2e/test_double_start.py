"""Many who want one directory at once: one gets it, the others say why not, nothing is harmed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.crash.double_starts import applications_start_at_once, servers_start_at_once

pytestmark = pytest.mark.proof


def test_one_of_many_servers_gets_the_directory(tmp_path: Path, seed: int) -> None:
    servers_start_at_once(tmp_path, seed, rounds=1, rivals=3)


def test_one_of_many_applications_owns_the_directory(tmp_path: Path, seed: int) -> None:
    applications_start_at_once(tmp_path, seed, rounds=1, count=4)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_one_gets_the_directory_however_often_they_start(tmp_path: Path, seed: int) -> None:
    servers_start_at_once(tmp_path, seed, rounds=6, rivals=8)
