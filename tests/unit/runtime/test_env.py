"""The real seam against the real machine: files, clocks and the host."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.model.env import Env
from headrace.runtime.env import real_env
from headrace.runtime.real_disk import filesystem_of, write_zeros


@pytest.fixture
def env() -> Env:
    return real_env()


# --- disk


def test_created_file_is_private_and_creating_it_again_is_refused(env: Env, tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    env.disk.close(env.disk.open(path, create=True, write=True))

    found = env.disk.stat(path)
    assert found is not None
    assert (found.mode, found.size_bytes, found.is_dir) == (0o600, 0, False)
    assert found.owner_uid == env.host.uid()
    with pytest.raises(FileExistsError):
        env.disk.open(path, create=True, write=True)


def test_open_refuses_a_symlink(env: Env, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"secret")
    (tmp_path / "link").symlink_to(tmp_path / "target")

    with pytest.raises(OSError) as refused:
        env.disk.open(str(tmp_path / "link"))
    assert refused.value.errno == errno.ELOOP


def test_descriptor_is_not_inherited_by_children(env: Env, tmp_path: Path) -> None:
    fd = env.disk.open(str(tmp_path / "file"), create=True, write=True)
    try:
        assert os.get_inheritable(fd) is False
    finally:
        env.disk.close(fd)


def test_file_opened_for_reading_cannot_be_written(env: Env, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    fd = env.disk.open(str(tmp_path / "file"))
    try:
        with pytest.raises(OSError) as refused:
            env.disk.pwrite(fd, b"x", 0)
        assert refused.value.errno == errno.EBADF
    finally:
        env.disk.close(fd)


@pytest.fixture
def fd(env: Env, tmp_path: Path) -> Iterator[int]:
    fd = env.disk.open(str(tmp_path / "open"), create=True, write=True)
    yield fd
    env.disk.close(fd)


def test_what_was_written_at_an_offset_is_read_there(env: Env, fd: int) -> None:
    assert env.disk.pwrite(fd, memoryview(b"head"), 0) == 4
    assert env.disk.pwritev(fd, [b"ra", b"", b"ce"], 4) == 4
    env.disk.fdatasync(fd)

    assert env.disk.pread(fd, 8, 0) == b"headrace"
    assert env.disk.pread(fd, 100, 4) == b"race"
    assert env.disk.pread(fd, 1, 8) == b""


def test_preallocated_room_reads_as_zeros_and_keeps_content(
    env: Env, fd: int, tmp_path: Path
) -> None:
    env.disk.pwrite(fd, b"abc", 0)
    env.disk.preallocate(fd, 4096)

    assert env.disk.pread(fd, 8192, 0) == b"abc" + bytes(4093)
    assert (tmp_path / "open").stat().st_blocks * 512 >= 4096


def test_zeros_stand_in_for_preallocation_where_it_is_missing(env: Env, fd: int) -> None:
    env.disk.pwrite(fd, b"abc", 0)
    write_zeros(fd, 3 * 1024 * 1024 + 1)

    assert env.disk.pread(fd, 5, 0) == b"abc\0\0"
    assert os.fstat(fd).st_size == 3 * 1024 * 1024 + 1


def test_preallocation_beyond_the_disk_is_refused_with_no_space(env: Env, fd: int) -> None:
    with pytest.raises(OSError) as refused:
        env.disk.preallocate(fd, 1 << 60)
    assert refused.value.errno in (errno.ENOSPC, errno.EFBIG)


def test_truncate_sets_the_size_both_ways(env: Env, fd: int) -> None:
    env.disk.pwrite(fd, b"abcdef", 0)
    env.disk.truncate(fd, 3)
    assert env.disk.pread(fd, 10, 0) == b"abc"
    env.disk.truncate(fd, 5)
    assert env.disk.pread(fd, 10, 0) == b"abc\0\0"


def test_drop_cache_keeps_content_and_forgives_a_closed_descriptor(env: Env, fd: int) -> None:
    env.disk.pwrite(fd, b"abc", 0)
    env.disk.fdatasync(fd)
    env.disk.drop_cache(fd)
    assert env.disk.pread(fd, 3, 0) == b"abc"
    env.disk.drop_cache(-1)


def test_names_are_made_listed_renamed_and_removed(env: Env, tmp_path: Path) -> None:
    directory = str(tmp_path / "wal")
    env.disk.mkdir(directory)
    for name in ("b", "a"):
        env.disk.close(env.disk.open(f"{directory}/{name}", create=True, write=True))
    env.disk.rename(f"{directory}/b", f"{directory}/c")
    env.disk.fsync_dir(directory)

    made = env.disk.stat(directory)
    assert made is not None
    assert (made.is_dir, made.mode) == (True, 0o700)
    assert env.disk.listdir(directory) == ["a", "c"]
    env.disk.unlink(f"{directory}/a")
    assert env.disk.listdir(directory) == ["c"]
    assert env.disk.stat(f"{directory}/a") is None
    with pytest.raises(FileExistsError):
        env.disk.mkdir(directory)


def test_lock_is_refused_while_another_descriptor_holds_it(env: Env, tmp_path: Path) -> None:
    path = str(tmp_path / "LOCK")
    holder = env.disk.open(path, create=True, write=True)
    other = env.disk.open(path, write=True)
    try:
        assert env.disk.try_lock(holder)
        assert not env.disk.try_lock(other)
        env.disk.close(holder)
        assert env.disk.try_lock(other)
    finally:
        env.disk.close(other)


def test_free_bytes_fit_the_disk(env: Env, tmp_path: Path) -> None:
    found = os.statvfs(tmp_path)
    assert 0 < env.disk.free_bytes(str(tmp_path)) <= found.f_blocks * found.f_frsize


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_filesystem_of_proc_is_proc_and_of_nowhere_is_that_of_root(env: Env) -> None:
    assert env.disk.filesystem("/proc/self") == "proc"
    assert env.disk.filesystem("/nowhere/at/all") == env.disk.filesystem("/")


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:30 / /srv/data rw - nfs4 server:/export rw
31 22 0:31 / /srv/data\\040two rw shared:7 master:2 - cifs //server/share rw
32 22 0:32 / /mnt rw - xfs /dev/a rw
33 22 0:33 / /mnt rw - fuse.sshfs x rw
nonsense
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "ext4"),
        ("/srv", "ext4"),
        ("/srv/data", "nfs4"),
        ("/srv/data/deep/er", "nfs4"),
        ("/srv/database", "ext4"),
        ("/srv/data two/x", "cifs"),
        ("/mnt/x", "fuse.sshfs"),  # the later mount hides the earlier one
    ],
)
def test_filesystem_is_that_of_the_nearest_mount(path: str, expected: str) -> None:
    assert filesystem_of(path, MOUNTS) == expected


def test_filesystem_is_unknown_without_mounts() -> None:
    assert filesystem_of("/srv", "") == ""


# --- clock, entropy, host


def test_clocks_read_plausible_time_and_never_go_back(env: Env) -> None:
    first = (env.clock.mono_ns(), env.clock.boot_ns())
    second = (env.clock.mono_ns(), env.clock.boot_ns())

    assert first <= second
    assert second[1] >= second[0] - 1_000_000_000  # boot time counts suspension as well
    assert env.clock.wall_ms() > 1_750_000_000_000


def test_random_values_have_their_size_and_differ(env: Env) -> None:
    assert len(env.entropy.random_bytes(16)) == 16
    drawn = {env.entropy.random_u64() for _ in range(100)}
    assert len(drawn) == 100
    assert all(0 <= value < 1 << 64 for value in drawn)


def test_forked_child_draws_other_random_values(env: Env) -> None:
    env.entropy.random_u64()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, env.entropy.random_bytes(16))
        os._exit(0)
    try:
        assert os.read(reading, 16) != env.entropy.random_bytes(16)
    finally:
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


def test_host_knows_this_process_and_that_an_ended_one_is_gone(env: Env) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    assert env.host.pid() == os.getpid()
    assert env.host.process_exists(os.getpid())
    assert not env.host.process_exists(ended.pid)
    assert not env.host.process_exists(0)
    assert not env.host.process_exists(10**12)
    assert env.host.hostname() == socket.gethostname()
    assert env.host.open_files_max() > 0
    assert env.host.environ()["PATH"] == os.environ["PATH"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_boot_id_is_a_uuid(env: Env) -> None:
    assert len(env.host.boot_id()) == 36
