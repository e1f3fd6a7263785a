"""Who may use a data directory, and where one may lie."""

from __future__ import annotations

import stat
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from headrace.log.base import Commit
from headrace.log.file.log import FileLog
from headrace.model.errors import FormatNewer, Locked, UnsafeDirectory
from headrace.runtime.env import real_env
from tests.recovery.story import ROOT, Story

HOLD = """
import sys
import zlib
from headrace.log.file.log import FileLog
from headrace.log.base import Commit
from headrace.runtime.env import real_env
log = FileLog(real_env(), sys.argv[1], segment_bytes=65536)
log.open()
epoch = log.lead("child")
log.append(epoch, Commit(b"c" * 16, 1, 1, 1, b"from the child"))
print("ready", flush=True)
sys.stdin.read()
"""


def holding_process(directory: Path) -> subprocess.Popen[str]:
    """A process that leads the log there and has appended one commit."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def test_second_process_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    with holding_process(directory) as child:
        log = FileLog(real_env(), str(directory))
        with pytest.raises(Locked) as caught:
            log.open()
        assert f"process {child.pid} on host {real_env().host.hostname()}" in str(caught.value)
        assert caught.value.exit_code == 75

        reader = FileLog(real_env(), str(directory))
        reader.open(read_only=True)
        assert [commit.body for commit in reader.tail(1)] == [b"from the child"]
        child.kill()


def test_killed_process_frees_the_directory_and_loses_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    with holding_process(directory) as child:
        child.kill()
    log = FileLog(real_env(), str(directory), segment_bytes=65536)
    opened = log.open()
    epoch = log.lead("parent")
    _, commits = log.recover()

    assert not opened.clean
    assert [commit.body for commit in commits] == [b"from the child"]
    assert log.append(epoch, Commit(b"p" * 16, 2, 1, 1, b"from the parent")) == 2
    log.close()


def test_everything_is_private_to_its_owner(tmp_path: Path) -> None:
    log = FileLog(real_env(), str(tmp_path / "data"), segment_bytes=65536)
    log.open()
    epoch = log.lead("sim")
    log.append(epoch, Commit(b"c" * 16, 1, 1, 1, b"secret"))
    writer = log.begin_snapshot(epoch, 1)
    writer.write(b"secret")
    writer.publish()
    paths = [tmp_path / "data", *(tmp_path / "data").rglob("*")]
    log.close()

    assert len(paths) >= 9
    for path in paths:
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_closed_directory_is_small(tmp_path: Path) -> None:
    """16 MiB are reserved while it leads, and given back when it closes."""
    log = FileLog(real_env(), str(tmp_path / "data"))
    log.open()
    epoch = log.lead("sim")
    log.append(epoch, Commit(b"c" * 16, 1, 1, 1, b"body"))
    log.idle()
    log.close()

    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 4096


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
@pytest.mark.parametrize("name", ["", "/wal", "/meta"])
def test_directory_that_others_may_write_is_refused(name: str, mode: int) -> None:
    story = Story(1).start().append().close()
    story.disk.set_owner(ROOT + name, mode=mode, owner_uid=1000)

    with pytest.raises(UnsafeDirectory, match=f"mode {mode:04o}.*chmod 700 {ROOT}{name}"):
        story.start()


def test_directory_of_another_user_is_refused() -> None:
    story = Story(1).start().close()
    story.disk.set_owner(ROOT, mode=0o700, owner_uid=7)

    with pytest.raises(UnsafeDirectory, match="belongs to user 7, this process runs as user 1000"):
        story.start()


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "fuse.sshfs"])
def test_network_file_system_is_refused(kind: str) -> None:
    story = Story(1)
    story.disk.filesystem_type = kind

    with pytest.raises(UnsafeDirectory, match=f"network file system \\({kind}\\)"):
        story.start()


def test_directory_is_made_with_one_missing_level_only() -> None:
    story = Story(1)
    log = FileLog(story.env, "/no/such/parent")

    with pytest.raises(UnsafeDirectory, match="cannot make /no/such/parent"):
        log.open()


def test_file_in_the_place_of_the_directory_is_refused() -> None:
    story = Story(1)
    story.disk.poke(ROOT, b"")

    with pytest.raises(UnsafeDirectory, match="is not a directory"):
        story.start()


def test_read_only_open_of_nothing_makes_nothing() -> None:
    story = Story(1)

    with pytest.raises(UnsafeDirectory, match="holds no headrace data"):
        story.new_log().open(read_only=True)
    assert story.disk.stat(ROOT) is None


def test_read_only_open_changes_nothing() -> None:
    story = Story(1).start().append(5)
    story.disk.trace.clear()
    reader = story.new_log()
    reader.open(read_only=True)
    reader.recover()
    reader.close()

    changing = {"pwrite", "pwritev", "truncate", "rename", "unlink", "mkdir", "try_lock"}
    assert not changing & {method for method, _ in story.disk.trace}


@pytest.mark.parametrize("text", [b"", b"pid=?\nhost", b"\xff\xfe\0"])
def test_second_open_is_locked_whatever_the_lock_says(text: bytes) -> None:
    story = Story(1).start()
    story.disk.poke(f"{ROOT}/LOCK", text)

    with pytest.raises(Locked, match="in use by another process"):
        story.new_log().open()


def test_lock_is_free_after_a_refused_open() -> None:
    story = Story(1).start().append(5).close()
    path = f"{ROOT}/meta/CURRENT"
    good = story.disk.peek(path)
    story.disk.poke(path, good[:50])
    for _ in range(2):
        with pytest.raises(Exception, match="E-CURRENT"):
            story.start()
    story.disk.poke(path, good)

    story.start()


# --- formats of the future


def newer(content: bytes, format_offset: int, checked_bytes: int) -> bytes:
    """The file as version 9 would write it, saying that only version 9 can read it."""
    changed = bytearray(content)
    changed[format_offset : format_offset + 4] = b"\x09\x00\x09\x00"
    crc = zlib.crc32(changed[: checked_bytes - 4])
    changed[checked_bytes - 4 : checked_bytes] = crc.to_bytes(4, "little")
    return bytes(changed)


def test_newer_segment_is_refused_as_newer() -> None:
    story = Story(1).start().append().close()
    path = story.segments()[0]
    story.disk.poke(path, newer(story.disk.peek(path), 8, 512))

    with pytest.raises(FormatNewer, match="needs a headrace that reads format 9"):
        story.start()


def test_newer_snapshot_is_refused_as_newer() -> None:
    story = Story(1).start().append().snapshot().close()
    path = story.snapshot_files()[0]
    story.disk.poke(path, newer(story.disk.peek(path), 8, 512))

    with pytest.raises(FormatNewer):
        story.start()


def test_newer_watermark_is_refused_as_newer() -> None:
    story = Story(1).start().append().close()
    path = f"{ROOT}/meta/WATERMARK"
    slots = story.disk.peek(path)
    story.disk.poke(path, slots[:512] + newer(slots[512:], 8, 512))

    with pytest.raises(FormatNewer):
        story.start()


def test_newer_current_is_refused_as_newer_though_its_fields_are_unknown() -> None:
    story = Story(1).start().append().close()
    content = b'{"format":9,"min_reader":9,"shards":["new"]}'
    text = b'{"checksum":"%08x","content":%s}' % (zlib.crc32(content), content)
    story.disk.poke(f"{ROOT}/meta/CURRENT", text)

    with pytest.raises(FormatNewer, match="format 9"):
        story.start()


def test_newer_format_that_older_readers_may_read_is_read() -> None:
    story = Story(1).start().append().close()
    path = f"{ROOT}/meta/CURRENT"
    content = story.disk.peek(path).partition(b'"content":')[2].rstrip()[:-1]
    content = content.replace(b'"format":1', b'"format":2,"unknown":[1,2]')
    text = b'{"checksum":"%08x","content":%s}' % (zlib.crc32(content), content)
    story.disk.poke(path, text)

    story.start()
