"""What a failing call must not leave behind: descriptors, locks, and errors without a name."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from headrace.log.base import Lost
from headrace.log.file.backup import copy_consistent, restore
from headrace.log.file.inspect import survey
from headrace.log.file.repair import rebuild_current
from headrace.log.file.verify import verify
from headrace.model.errors import DiskFailed, HeadraceError
from headrace.testing.sim_disk import Fault
from tests.recovery.story import ROOT, Story, blocks_of

BODY = b"five of these fill a segment" * 100
EIO = Fault(error_number=errno.EIO)


def fails(story: Story, method: str, path_end: str = "") -> None:
    """From now on every such call fails."""

    def befall(called: str, path: str) -> Fault | None:
        return EIO if called == method and path.endswith(path_end) else None

    story.disk.befall = befall


def heal(story: Story) -> None:
    story.disk.befall = lambda method, path: None


@pytest.mark.parametrize("method", ["try_lock", "truncate", "pwrite"])
def test_lock_that_could_not_be_written_is_free_again(method: str) -> None:
    """The same process could not open the log again: it was locked, by nobody."""
    story = Story(1).start().append(2).close()
    fails(story, method, "/LOCK")
    with pytest.raises(HeadraceError):
        story.start()

    assert story.disk.open_count == 0
    heal(story)
    story.start()


def test_segment_that_could_not_be_listed_is_closed() -> None:
    story = Story(1).start().append(4, BODY)
    fails(story, "rename", "/CURRENT")
    with pytest.raises(Lost):
        story.append(2, BODY)
    story.log.close()

    assert story.disk.open_count == 0


def test_segment_that_could_not_be_trimmed_is_closed() -> None:
    story = Story(1).start().append(4, BODY)
    fails(story, "truncate", ".wal")
    with pytest.raises(Lost):
        story.append(2, BODY)
    story.log.close()

    assert story.disk.open_count == 0


def test_segment_that_could_not_be_resumed_is_closed() -> None:
    story = Story(1).start().append(4, BODY).close()
    fails(story, "fdatasync", ".wal")
    with pytest.raises(Lost):
        story.start()
    story.log.close()

    assert story.disk.open_count == 0


def test_snapshot_that_cannot_even_be_removed_fails_with_a_name() -> None:
    story = Story(1).start().append(4)
    writer = story.log.begin_snapshot(story.epoch, story.last_index)
    story.disk.befall = lambda method, path: EIO if ".snap" in path else None
    with pytest.raises(DiskFailed):
        writer.write(b"block")
    heal(story)

    story.append().snapshot().close().start()


def test_snapshot_on_its_way_is_closed_with_its_log() -> None:
    """The log failed, nobody publishes or aborts any more: the descriptor stayed open."""
    story = Story(1).start().append(4)
    writer = story.log.begin_snapshot(story.epoch, story.last_index)
    writer.write(blocks_of(story.last_index)[0])
    story.log.close()

    assert story.disk.open_count == 0
    story.start()
    assert story.snapshot_files() == []


def failing_tools() -> dict[str, tuple[str, Callable[[Story], object]]]:
    """The first call that each of them makes, and how it is run."""
    return {
        "verify": ("stat", lambda story: list(verify(story.env, ROOT))),
        "survey": ("stat", lambda story: survey(story.env, ROOT)),
        "backup": ("stat", lambda story: copy_consistent(story.env, ROOT, "/copy")),
        "restore": ("stat", lambda story: restore(story.env, ROOT, "/copy")),
        "repair": ("stat", lambda story: rebuild_current(story.env, ROOT)),
        "backup to a bad disk": (
            "listdir",
            lambda story: copy_consistent(story.env, ROOT, "/"),
        ),
        "repair without a list": ("listdir", lambda story: rebuild_current(story.env, ROOT)),
    }


@pytest.mark.parametrize("tool", failing_tools())
def test_tool_on_a_failing_disk_says_which_file_and_what_to_do(tool: str) -> None:
    method, run = failing_tools()[tool]
    story = Story(1).start().append(4).close()
    fails(story, method)
    with pytest.raises(DiskFailed) as caught:
        run(story)

    assert caught.value.hint
    assert story.disk.open_count == 0


def test_probe_of_a_failing_disk_is_an_answer() -> None:
    story = Story(1).start()
    fails(story, "filesystem")

    assert not story.log.probe().ok
