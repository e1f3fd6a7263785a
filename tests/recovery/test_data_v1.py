"""`spec/vectors/data-v1`, written by the release that first wrote format 1, opens for ever.

Nothing in that directory is ever made anew; a failure here is a broken promise, not a
stale file. The one thing that may change with a release is `digest`: it is taken over
rows as this release writes them, so it moves when a row gains a field.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest

from headrace.cli.replay import read_only, records_of, replay_deeply
from headrace.codec.rows import decode_rows
from headrace.engine.engine import Engine
from headrace.log.file.log import FileLog
from headrace.model.job import State
from headrace.model.options import EngineOptions
from headrace.model.records import MACHINE_VERSION, AnyRecord, Record
from headrace.model.rows import AnyRow
from headrace.runtime.env import real_env
from headrace.runtime.recovery import recover
from tools.data_story import told

VECTOR = Path(__file__).resolve().parents[2] / "spec/vectors/data-v1"
ROW_TYPES = {row for row in get_args(AnyRow) if row.__struct_config__.tag <= 7}
"""Those that there were when format 1 was released."""
RECORD_TYPES = set(get_args(AnyRecord)[:23])


@pytest.fixture
def directory(tmp_path: Path) -> str:
    """A copy, as an operator would have it on a disk."""
    copy = tmp_path / "data"
    shutil.copytree(VECTOR / "data", copy)
    copy.chmod(0o700)
    for path in copy.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return str(copy)


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((VECTOR / "expected.json").read_text(encoding="utf-8"))
    return facts


def test_directory_holds_every_type_of_record_and_row(directory: str) -> None:
    with read_only(real_env(), directory) as (log, info):
        found: set[type[Record]] = set()
        for commit in log.tail(1):
            found |= {type(record) for _, record in records_of(commit)}
        snapshot, _ = log.recover()
        assert snapshot is not None
        rows = {type(row) for block in snapshot.blocks() for row in decode_rows(block)}

    assert found >= RECORD_TYPES
    assert rows >= ROW_TYPES
    assert (info.format_version, info.first_index, info.clean) == (1, 1, False)
    assert info.dropped_bytes > 0


def test_snapshot_and_log_give_the_state_of_the_release(
    directory: str, expected: dict[str, Any]
) -> None:
    with read_only(real_env(), directory) as (log, _):
        snapshot, commits = log.recover()
        assert snapshot is not None
        assert snapshot.info.index == expected["snapshot_index"]
        engine = Engine(EngineOptions(verify=True))
        for block in snapshot.blocks():
            engine.load_rows(decode_rows(block))
        engine.finish_load()
        for commit in commits:
            for index, record in records_of(commit):
                engine.apply(index, record)
    engine.check_state()

    assert engine.digest() == expected["digest"]
    assert_says(expected, told(engine))


def test_all_of_the_log_gives_the_same_state(directory: str, expected: dict[str, Any]) -> None:
    report = replay_deeply(real_env(), directory, lambda done, total=None: None)

    assert report.replayed_from_start
    assert report.snapshot_index == expected["snapshot_index"]
    assert (report.last_index, report.digest) == (expected["last_index"], expected["digest"])


def test_directory_is_led_mended_and_led_again(directory: str, expected: dict[str, Any]) -> None:
    """Its torn end is set aside, and every job that was acknowledged is there."""
    ids = {job["job_id"] for job in expected["jobs"]}
    for start in range(2):
        log = new_log(directory)
        recovered = recover(real_env(), log, "later", EngineOptions(verify=True), tune_gc=False)
        assert recovered.info.clean == (start > 0)
        assert {job["job_id"] for job in told(recovered.engine)["jobs"]} == ids
        log.close()

    assert list(Path(directory, "lost+found").iterdir())


def test_expected_state_has_a_job_in_every_state(expected: dict[str, Any]) -> None:
    states = {job["state"] for job in expected["jobs"]}

    assert states == {state.word for state in State if state is not State.BLOCKED}


def new_log(directory: str) -> FileLog:
    return FileLog(real_env(), directory, machine_version=MACHINE_VERSION)


def assert_says(expected: Any, found: Any, place: str = "") -> None:
    """`found` says all that `expected` says; fields of later releases may be beside it."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key, value in expected.items():
            if key not in ("digest", "snapshot_index"):
                assert key in found, f"{place}.{key} is gone"
                assert_says(value, found[key], f"{place}.{key}")
    elif isinstance(expected, list) and isinstance(found, list):
        assert len(expected) == len(found), place
        for number, (one, other) in enumerate(zip(expected, found, strict=True)):
            assert_says(one, other, f"{place}[{number}]")
    else:
        assert expected == found, f"{place}: expected {expected!r}, found {found!r}"
