"""Power cuts under load: what no sync made durable is lost, and nothing that was acknowledged."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.crash.commands import copies_meet_points
from tests.e2e.crash.kills import ServerStory
from tests.e2e.crash.power import Machine

pytestmark = pytest.mark.proof

CUTS = 3

WRITER = """
import os, sys

root = sys.argv[1]

def keep(fd):
    os.fdatasync(fd)

def make(name, content, synced):
    fd = os.open(f"{root}/{name}", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.pwritev(fd, [content[:3], content[3:]], 0)
    if synced:
        os.fdatasync(fd)
    return fd

os.mkdir(f"{root}/d", 0o700)
kept = make("d/kept", b"durable", True)
directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
os.fsync(directory)
below = os.open(f"{root}/d", os.O_RDONLY | os.O_DIRECTORY)
os.fsync(below)
os.pwrite(kept, b"later", 100)
make("d/content-synced-name-not", b"durable", True)
make("d/nothing-synced", b"nothing", False)
os.kill(os.getpid(), 9)
"""


def test_cut_loses_what_was_not_synced_and_nothing_else(tmp_path: Path) -> None:
    """Over many cuts of one moment: each un-synced thing is lost in some, kept in others."""
    kept: dict[str, set[bytes | None]] = {}
    for seed in range(40):
        machine = Machine(tmp_path / str(seed))
        ended = subprocess.run(
            [sys.executable, "-c", WRITER, str(machine.root)],
            env={**os.environ, **machine.environ},
            check=False,
        )
        assert ended.returncode == -9
        machine.cut(random.Random(seed))
        for name in ("kept", "content-synced-name-not", "nothing-synced"):
            path = machine.root / "d" / name
            kept.setdefault(name, set()).add(path.read_bytes() if path.exists() else None)

    assert all(found is not None and found[:7] == b"durable" for found in kept["kept"])
    assert {len(found or b"") for found in kept["kept"]} == {7, 105}, "the later write"
    assert kept["content-synced-name-not"] == {None, b"durable"}
    assert {None, b"", b"nothing"} <= kept["nothing-synced"]


def test_power_cuts_under_load_lose_nothing_that_was_acknowledged(
    tmp_path: Path, seed: int
) -> None:
    machine = Machine(tmp_path / "disk")
    tally = ServerStory(tmp_path, seed, machine=machine).run(CUTS)
    assert tally["power cuts"] == machine.cut_count


@pytest.mark.parametrize("forgets", ["fdatasync", pytest.param("fsync", marks=pytest.mark.long)])
def test_disk_that_lies_about_syncs_is_found_out(tmp_path: Path, seed: int, forgets: str) -> None:
    """Of files, or of directories: so the judges would see a sync that the server forgets."""
    machine = Machine(tmp_path / "disk", forgets=forgets)
    story = ServerStory(tmp_path, seed, machine=machine)
    with pytest.raises(AssertionError):
        story.run(30)
    assert machine.lossy_cut_count > 0


@pytest.mark.long
@pytest.mark.timeout(600)
def test_half_a_backup_is_never_taken_for_a_whole_one(tmp_path: Path) -> None:
    for seed in range(10):
        directory = tmp_path / str(seed)
        directory.mkdir()
        copies_meet_points(directory, seed)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("small_files", [False, True], ids=["whole log", "truncated log"])
def test_power_cuts_go_well_for_long(tmp_path: Path, seed: int, small_files: bool) -> None:
    machine = Machine(tmp_path / "disk")
    ServerStory(tmp_path, seed, machine=machine, small_files=small_files).run(10 * CUTS)
