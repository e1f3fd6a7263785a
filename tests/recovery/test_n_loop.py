"""The Nth call to the disk fails, for every N and every kind of fault, in small workloads.

`python -m proof.n_loop` says what came of each.
"""

from __future__ import annotations

from collections import Counter

import pytest

from headrace.log.file import disk_io, lock, log, mending, segment_writer, wal_writer
from proof.n_loop.looping import NAMES, beyond, cases, endure_case
from tests.recovery.lying import Lie, tell

pytestmark = pytest.mark.proof


@pytest.mark.parametrize("workload", NAMES)
def test_call_that_fails_is_named_and_costs_no_promise(workload: str) -> None:
    told: Counter[str] = Counter()
    for case in cases(workload):
        outcome, problem = endure_case(case)
        assert not problem, f"{problem}: {case.command()}"
        told[outcome] += 1

    assert told["stopped"] > 0
    assert sum(told.values()) > told["stopped"] + told["passed"] or workload == "probe"


@pytest.mark.parametrize("workload", NAMES)
def test_workload_passes_when_the_fault_comes_after_it(workload: str) -> None:
    assert beyond(workload) == ("passed", "")


LIES: dict[str, tuple[str, Lie]] = {
    "a short write is taken for a whole one": (
        "append",
        Lie(disk_io, "write_buffers", "if written < sum(map(len, buffers)):", "if False:"),
    ),
    "a full disk in the middle of a commit is refused": (
        "append",
        Lie(
            wal_writer.WalWriter,
            "append",
            "active.write(epoch, commit, flags)",
            "with refusing_full_disk(self._layout): active.write(epoch, commit, flags)",
        ),
    ),
    "a failed sync is taken for a good one": (
        "append",
        Lie(
            segment_writer.SegmentWriter,
            "write",
            "self._disk.fdatasync(self._fd)",
            "\n    try: self._disk.fdatasync(self._fd)\n    except OSError: pass",
        ),
    ),
    "a lost log goes on": (
        "append",
        Lie(log.FileLog, "_check_alive", "if self._poison is not None:", "if False:"),
    ),
    "an error has no name": (
        "rotate",
        Lie(log.FileLog, "append", "with self._writing():", "if True:"),
    ),
    "leftovers stay": (
        "recover after a crash",
        Lie(mending, "remove_leftovers", "remove_if_there(disk, path)", "pass"),
    ),
    "a lock that could not be written stays": (
        "open",
        Lie(
            lock.DirectoryLock,
            "__init__",
            "except BaseException:\n        self.release()\n",
            "except BaseException:\n",
        ),
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_log_that_lies_about_a_fault_is_found_out(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workload, lie = LIES[name]
    tell(monkeypatch, lie)

    assert any(endure_case(case)[1] for case in cases(workload))
