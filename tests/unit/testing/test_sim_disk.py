"""The simulated disk keeps exactly what a disk promises, and behaves as a real one otherwise."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.model.env import Disk
from headrace.runtime.env import real_env
from headrace.testing.sim_disk import Fault, SimCrash, SimDisk


def made(path: str = "/file") -> tuple[SimDisk, int]:
    """A disk with one empty file whose name is durable."""
    disk = SimDisk()
    fd = disk.open(path, create=True, write=True)
    disk.fsync_dir("/")
    return disk, fd


def outcomes(
    prepare: Callable[[SimDisk], object], look: Callable[[SimDisk], object]
) -> set[object]:
    """What `look` sees after a crash, over many ways to survive it."""
    seen = set()
    for seed in range(300):
        disk, _ = made()
        prepare(disk)
        disk.crash(random.Random(seed))
        seen.add(look(disk))
    return seen


def test_synced_content_always_survives() -> None:
    def prepare(disk: SimDisk) -> None:
        disk.pwrite(3, b"synced", 0)
        disk.fdatasync(3)

    assert outcomes(prepare, lambda disk: disk.peek("/file")) == {b"synced"}


def test_unsynced_content_survives_in_any_subset_of_sectors() -> None:
    def prepare(disk: SimDisk) -> None:
        disk.preallocate(3, 1536)
        disk.fdatasync(3)
        disk.pwrite(3, b"a" * 1536, 0)

    seen = outcomes(prepare, lambda disk: tuple(disk.peek("/file")[at] for at in (0, 512, 1024)))
    assert len(seen) == 8


def test_sector_may_be_cut_inside() -> None:
    def prepare(disk: SimDisk) -> None:
        disk.preallocate(3, 512)
        disk.fdatasync(3)
        disk.pwrite(3, b"a" * 512, 0)

    assert len(outcomes(prepare, lambda disk: disk.peek("/file").count(b"a"))) > 5


def test_unsynced_name_may_be_lost_and_synced_name_never() -> None:
    def prepare(disk: SimDisk) -> None:
        disk.close(disk.open("/synced", create=True))
        disk.fsync_dir("/")
        disk.close(disk.open("/unsynced", create=True))

    seen = outcomes(prepare, lambda disk: tuple(disk.listdir("/")))
    assert seen == {("file", "synced"), ("file", "synced", "unsynced")}


def test_rename_happens_whole_or_not_at_all() -> None:
    def prepare(disk: SimDisk) -> None:
        disk.pwrite(3, b"new", 0)
        disk.fdatasync(3)
        disk.rename("/file", "/target")

    seen = outcomes(prepare, lambda disk: tuple(disk.listdir("/")))
    assert seen == {("file",), ("target",)}


def test_failed_sync_loses_what_it_was_to_write_even_if_repeated() -> None:
    disk, fd = made()
    disk.pwrite(fd, b"gone", 0)
    disk.faults[disk.calls + 1] = Fault(error_number=errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        disk.fdatasync(fd)
    disk.fdatasync(fd)

    assert disk.peek("/file") == b"gone", "the cache still shows it"
    disk.drop_cache(fd)
    assert disk.peek("/file") == b""


def test_killed_process_leaves_the_cache_and_frees_its_locks() -> None:
    disk, fd = made()
    disk.pwrite(fd, b"cached", 0)
    assert disk.try_lock(fd)
    assert not disk.try_lock(disk.open("/file"))
    disk.kill_process()

    assert disk.peek("/file") == b"cached"
    assert disk.try_lock(disk.open("/file"))
    with pytest.raises(OSError, match="descriptor"):
        disk.pread(fd, 1, 0)


def test_crash_fault_stops_everything_until_the_machine_is_up_again() -> None:
    disk, fd = made()
    disk.faults[disk.calls + 1] = Fault(crash="after")
    with pytest.raises(SimCrash):
        disk.pwrite(fd, b"x", 0)
    with pytest.raises(SimCrash):
        disk.stat("/file")
    disk.crash(random.Random(0))

    assert disk.stat("/file") is not None


def test_full_disk_refuses_growth_and_takes_what_was_reserved() -> None:
    disk, fd = made()
    disk.capacity_bytes = 1000
    disk.preallocate(fd, 900)
    other = disk.open("/other", create=True, write=True)
    with pytest.raises(OSError, match="No space") as caught:
        disk.pwrite(other, bytes(200), 0)

    assert caught.value.errno == errno.ENOSPC
    assert disk.pwrite(fd, bytes(900), 0) == 900
    disk.close(fd)
    disk.unlink("/file")
    assert disk.free_bytes("/") == 1000


def test_short_write_says_how_much_it_wrote() -> None:
    disk, fd = made()
    disk.faults[disk.calls + 1] = Fault(written_bytes=3)

    assert disk.pwritev(fd, [b"ab", b"cd"], 0) == 3
    assert disk.peek("/file") == b"abc"


def test_shortening_waits_for_a_write_that_is_longer_and_happens_once() -> None:
    disk, fd = made()
    disk.shorten_to_bytes = 2

    assert disk.pread(fd, 9, 0) == b""
    assert disk.pwrite(fd, b"ab", 0) == 2
    assert disk.pwrite(fd, b"cdef", 0) == 2
    assert disk.pwrite(fd, b"cdef", 0) == 4
    assert disk.peek("/file") == b"cdef"


# --- beside a real disk


class Twin:
    """The same calls on a disk below `root`; failures are their numbers."""

    def __init__(self, disk: Disk, root: str) -> None:
        self.disk = disk
        self.root = root
        self.fds: list[int] = []

    def do(self, rng: random.Random) -> object:
        name = f"{self.root}/{rng.choice('abc')}"
        other = f"{self.root}/{rng.choice('abc')}"
        verb = rng.randrange(9)
        offset, length = rng.randrange(2000), rng.randrange(2000)
        data = rng.randbytes(rng.randrange(1, 1500))
        which = rng.random()
        try:
            if verb == 0:
                self.fds.append(self.disk.open(name, create=rng.random() < 0.5, write=True))
                return "opened"
            if verb == 1:
                return self.disk.unlink(name)
            if verb == 2:
                return self.disk.rename(name, other)
            if verb == 3:
                stat = self.disk.stat(name)
                return stat and (stat.size_bytes, stat.mode, stat.is_dir)
            if not self.fds:
                return None
            fd = self.fds[int(which * len(self.fds))]
            return self.on_file(verb, fd, offset, length, data)
        except OSError as error:
            return error.errno

    def on_file(self, verb: int, fd: int, offset: int, length: int, data: bytes) -> object:
        if verb == 4:
            return self.disk.pread(fd, length, offset)
        if verb == 5:
            return self.disk.pwritev(fd, [data, data[:7]], offset)
        if verb == 6:
            return self.disk.truncate(fd, length)
        if verb == 7:
            return self.disk.preallocate(fd, length + 1)
        self.fds.remove(fd)
        return self.disk.close(fd)


@pytest.mark.parametrize("seed", range(20))
def test_simulated_disk_answers_as_a_real_one(seed: int, tmp_path: Path) -> None:
    sim = SimDisk()
    sim.mkdir("/root")
    twins = [Twin(sim, "/root"), Twin(real_env().disk, str(tmp_path))]
    for step in range(200):
        answers = [twin.do(random.Random(f"{seed}.{step}")) for twin in twins]
        assert answers[0] == answers[1], step
        assert sim.listdir("/root") == real_env().disk.listdir(str(tmp_path))
    for fd in twins[1].fds:
        real_env().disk.close(fd)
