"""Crash at every call of a trace, in the states that a crash may leave; and each lie is caught.

`python -m proof.explorer --traces 2000` for more than the usual few.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from headrace.log.file import disk_io, log, segment_writer, snapshot_shelf, wal_writer
from headrace.log.file import snapshot_writer as snapshots
from headrace.testing.crash_states import Choice, CrashStates, Op, all_choices
from headrace.testing.sim_disk import SimDisk
from proof.explorer.__main__ import CALLS_MAX, explore, main
from proof.explorer.__main__ import STATES_PER_PREFIX as STATES_PER_PREFIX_MAX
from proof.explorer.exploring import Exploration
from proof.explorer.scenarios import lived, tree_of
from proof.explorer.seeds import KINDS, trace_of
from tests.recovery.lying import Lie, tell

pytestmark = pytest.mark.proof

TRACES = 60
STATES_PER_PREFIX = 16
LONG_SEEDS = range(10_000, 10_400)


@pytest.mark.parametrize("kind", KINDS)
def test_every_state_that_a_crash_may_leave_recovers(kind: str) -> None:
    totals: Counter[str] = Counter()
    for seed in range(KINDS.index(kind), TRACES, len(KINDS)):
        counts, failures = explore(seed, STATES_PER_PREFIX, CALLS_MAX)
        totals.update(counts)
        assert failures == []

    assert totals["states"] > totals["prefixes"] > totals["traces"]


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_traces_recover_from_many_states() -> None:
    for seed in LONG_SEEDS:
        assert explore(seed, STATES_PER_PREFIX_MAX, CALLS_MAX)[1] == []


def test_trace_of_a_seed_is_always_the_same() -> None:
    for seed in range(len(KINDS)):
        first, second = trace_of(seed, CALLS_MAX), trace_of(seed, CALLS_MAX)
        assert (first.ops, first.promises, first.begin) == (
            second.ops,
            second.promises,
            second.begin,
        )


def test_state_is_told_call_by_call(capsys: pytest.CaptureFixture[str]) -> None:
    trace = trace_of(KINDS.index("appends"), CALLS_MAX)
    begin = trace.begin
    assert main(["--trace", str(trace.seed), "--prefix", str(begin + 1), "--state", "1"]) == 0

    said = capsys.readouterr().out
    assert f"{begin:4}  {trace.ops[begin].describe()}" in said
    assert "kept" in said
    assert "recovered as promised" in said


# --- the model of the medium


def file_states(*ops: Op) -> list[bytes | None]:
    """Content of /f in each state after these calls on it; None when it is not there."""
    states = CrashStates()
    states.apply(Op("open", "/f", 1, added=(0, "f")))
    for op in ops:
        states.apply(op)
    return [states.tree(choice).get("/f") for choice in all_choices(states.units())]


def test_unsynced_write_is_there_in_any_part() -> None:
    found = file_states(
        Op("fsync_dir", "/", 0), Op("pwrite", "/f", 1, offset=0, data=b"a" * 512 + b"b" * 512)
    )

    assert set(found) >= {b"", bytes(1024), b"a" * 512, bytes(512) + b"b" * 512}
    assert b"a" * 512 + b"b" * 256 + bytes(256) in found
    assert b"a" * 512 + b"b" * 512 in found


def test_synced_write_is_there_when_its_name_is() -> None:
    found = file_states(Op("pwrite", "/f", 1, data=b"whole"), Op("fdatasync", "/f", 1))

    assert set(found) == {None, b"whole"}


def test_rename_happens_whole_or_not_at_all() -> None:
    states = CrashStates({"/new": b"new", "/old": b"old"})
    states.apply(Op("rename", "/old", 1, removed=(0, "new"), added=(0, "old")))
    found = [states.tree(choice) for choice in all_choices(states.units())]

    assert found == [{"/new": b"new", "/old": b"old"}, {"/old": b"new"}]


def test_rename_into_another_directory_never_loses_the_file() -> None:
    states = CrashStates({"/a": None, "/a/f": b"f", "/b": None})
    states.apply(Op("rename", "/b/f", 2, removed=(1, "f"), added=(3, "f")))
    found = [set(states.tree(choice)) for choice in all_choices(states.units())]

    assert {"/a", "/a/f", "/b"} in found
    assert {"/a", "/b", "/b/f"} in found
    assert {"/a", "/b"} not in found


def test_nothing_is_open_after_everything_was_synced() -> None:
    states = CrashStates()
    for op in (
        Op("mkdir", "/d", 1, is_dir=True, added=(0, "d")),
        Op("open", "/d/f", 2, added=(1, "f")),
        Op("pwrite", "/d/f", 2, data=b"x"),
        Op("fsync_dir", "/", 0),
        Op("fsync_dir", "/d", 1),
        Op("fdatasync", "/d/f", 2),
    ):
        states.apply(op)

    assert states.units() == []
    assert states.tree(Choice(())) == {"/d": None, "/d/f": b"x"}


@pytest.mark.parametrize("seed", range(10))
def test_everything_kept_is_what_a_reader_saw(seed: int) -> None:
    """The model of the medium and the simulated disk understand each call alike."""
    teller = lived(seed)

    assert tree_of(teller) == dict(seen(teller.disk, ""))


def seen(disk: SimDisk, directory: str) -> Iterator[tuple[str, bytes | None]]:
    for name in disk.listdir(directory):
        path = f"{directory}/{name}"
        found = disk.stat(path)
        assert found is not None
        yield path, None if found.is_dir else disk.peek(path)
        if found.is_dir:
            yield from seen(disk, path)


# --- logs that lie


LIES: dict[str, Lie] = {
    "a commit is not synced": Lie(
        segment_writer.SegmentWriter,
        "write",
        "self._disk.fdatasync(self._fd)",
        "pass",
    ),
    "the name of a new segment is not synced": Lie(
        wal_writer.WalWriter,
        "_name_spare",
        "self._disk.fsync_dir(self._layout.wal)",
        "pass",
    ),
    "the header of a new segment is not synced": Lie(
        wal_writer.WalWriter,
        "_name_spare",
        "self._disk.fdatasync(fd)",
        "pass",
    ),
    "CURRENT is renamed before it is synced": Lie(
        disk_io, "write_new", "disk.fdatasync(fd)", "pass"
    ),
    "a snapshot is published before it is synced": Lie(
        snapshots.FileSnapshotWriter,
        "publish",
        "self._sync()",
        "pass",
    ),
    "the directory is not synced after a rename": Lie(
        disk_io,
        "publish_written",
        "disk.fsync_dir(directory)",
        "pass",
    ),
    "segments go before the list that does without them": Lie(
        snapshot_shelf,
        "truncate",
        "    writer.publish(segments=segments, snapshots=snapshots)\n"
        "    for segment in current.segments[:behind]:\n"
        "        remove_if_there(disk, segment.path(layout))\n",
        "    for segment in current.segments[:behind]:\n"
        "        remove_if_there(disk, segment.path(layout))\n"
        "    writer.publish(segments=segments, snapshots=snapshots)\n",
    ),
    "the watermark runs ahead of the data": Lie(
        wal_writer.WalWriter,
        "append",
        "active.write(epoch, commit, flags)",
        "self._watermark.write(Watermark(active.commit_no + 1, active.index)); "
        "self._watermark.sync(); active.write(epoch, commit, flags)",
    ),
    "a snapshot counts before it is durable": Lie(
        log.FileLog,
        "begin_snapshot",
        "visible = publish_snapshot(self._disk, self._layout, leading, ref)",
        "leading.publish(snapshots=(*leading.current.snapshots, ref)); visible = ref",
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_log_that_lies_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(monkeypatch, LIES[name])

    assert any(first_failure(seed) for seed in range(TRACES))


def first_failure(seed: int) -> str:
    exploration = Exploration(trace_of(seed, CALLS_MAX), STATES_PER_PREFIX)
    return next((failure.describe() for failure in exploration.failures()), "")
