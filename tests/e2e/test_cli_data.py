"""Looking after a data directory: doctor, verify, dump, backup, restore, repair."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from headrace.log.file.segment_format import SEGMENT_HEADER_BYTES
from tests.e2e.cli_kit import headrace, serving

JOBS = 6


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that was used and closed: a few commits, one job each."""
    directory = tmp_path_factory.mktemp("data") / "d"
    with serving(directory) as server:
        url = server.lines[0].split()[-1]
        for number in range(JOBS):
            payload = json.dumps({"number": number})
            assert headrace("enqueue", "k", "--json", payload, url=url).exit_code == 0
        server.process.terminate()
        assert server.ended() == 0
    return directory


@pytest.fixture(scope="module")
def number_of(original: Path) -> dict[str, int]:
    """Job id → the number in its payload."""
    records = [json.loads(line) for line in headrace("dump", original).out.splitlines()]
    jobs = [job for record in records for job in record.get("jobs", ())]
    return {job["job_id"]: job["payload"]["number"] for job in jobs}


@pytest.fixture
def data(original: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(original, tmp_path / "d"))


def segment(directory: Path) -> Path:
    return min((directory / "wal").glob("*.wal"))


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.write_bytes(content)


def damage(directory: Path) -> Path:
    """A byte of the third job's payload is another one; what follows is whole."""
    path = segment(directory)
    flip(path, path.read_bytes().index(b'{"number": 2}'))
    return path


def numbers(url: object) -> list[int]:
    jobs = headrace("job", "list", "--json", url=url).json["jobs"]
    ids = [view["job_id"] for view in jobs]
    shown = [headrace("job", "show", job_id, "--json", url=url).json for job_id in ids]
    return sorted(view["payload"]["number"] for view in shown)


# --- doctor


def test_doctor_finds_nothing_wrong_with_a_good_directory(data: Path) -> None:
    ran = headrace("doctor", data, "--json")
    assert ran.exit_code == 0
    assert (ran.json["problem"], ran.json["closed_clean"]) == ("", True)
    assert ran.json["probe"]["sync_p50_ms"] > 0
    assert len(ran.json["segments"]) == 1
    shown = headrace("doctor", data).out
    assert "nothing is wrong" in shown
    assert segment(data).name in shown


def test_doctor_changes_nothing(data: Path) -> None:
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    headrace("doctor", data)
    headrace("verify", data, "--deep")
    headrace("dump", data)
    after = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert after == before


def test_doctor_says_what_serve_would_refuse(data: Path) -> None:
    damage(data)
    ran = headrace("doctor", data)
    assert ran.exit_code == 1
    assert "wrong: E-WAL-CORRUPT" in ran.out
    assert headrace("doctor", data, "--json").json["problem"].startswith("E-WAL-CORRUPT")


def test_doctor_names_who_uses_a_live_directory(tmp_path: Path) -> None:
    with serving(tmp_path / "d") as server:
        ran = headrace("doctor", tmp_path / "d", "--json")
        assert ran.exit_code == 0
        assert ran.json["in_use"] is True
        assert ran.json["holder"]["pid"] == server.process.pid


def test_doctor_of_nothing_is_exit_code_4(tmp_path: Path) -> None:
    assert headrace("doctor", tmp_path / "nothing").exit_code == 4


# --- verify


def test_verify_of_a_good_directory_is_good(data: Path) -> None:
    ran = headrace("verify", data)
    assert ran.exit_code == 0
    assert ran.out.endswith("good\n")


def test_deep_verify_replays_everything(data: Path) -> None:
    ran = headrace("verify", data, "--deep", "--json")
    assert ran.exit_code == 0
    deep = ran.json["deep"]
    assert deep["replayed_from_start"] is True
    assert deep["last_index"] > JOBS
    assert len(deep["digest"]) == 32


def test_verify_names_the_damage_and_ends_with_78(data: Path) -> None:
    path = damage(data)
    ran = headrace("verify", data, "--json")
    assert ran.exit_code == 78
    (error,) = [one for one in ran.json["findings"] if one["severity"] == "error"]
    assert (error["code"], error["path"]) == ("E-WAL-CORRUPT", str(path))
    assert 0 < error["offset"] < path.read_bytes().index(b'{"number": 3}')
    assert headrace("verify", data).out.endswith("damaged\n")


def test_verify_works_on_a_live_directory(tmp_path: Path) -> None:
    with serving(tmp_path / "d") as server:
        headrace("enqueue", "k", url=server.lines[0].split()[-1])
        assert headrace("verify", tmp_path / "d", "--deep").exit_code == 0


# --- dump


def test_dump_prints_every_record_as_a_line_of_json(data: Path) -> None:
    lines = [json.loads(line) for line in headrace("dump", data).out.splitlines()]
    assert [line["index"] for line in lines] == list(range(1, len(lines) + 1))
    assert lines[0]["record"] == "EpochStarted"
    payloads = [
        job["payload"] for line in lines if line["record"] == "JobsEnqueued" for job in line["jobs"]
    ]
    assert payloads == [{"number": number} for number in range(JOBS)]


def test_dump_prints_the_part_that_is_asked_for(data: Path) -> None:
    out = headrace("dump", data, "--from-index", 3, "--to-index", 5).out
    assert [json.loads(line)["index"] for line in out.splitlines()] == [3, 4, 5]


# --- backup and restore


def test_backup_of_a_live_directory_is_restored_with_every_job(tmp_path: Path) -> None:
    live, backup, restored = tmp_path / "live", tmp_path / "backup", tmp_path / "restored"
    with serving(live) as server:
        url = server.lines[0].split()[-1]
        headrace("enqueue", "k", "--json", '{"number": 1}', url=url)
        made = headrace("backup", live, backup, "--json")
        headrace("enqueue", "k", "--json", '{"number": 2}', url=url)
    assert made.exit_code == 0
    assert made.json["last_index"] >= 3

    again = headrace("restore", backup, restored, "--yes")
    assert again.exit_code == 0
    assert f"{restored} holds everything up to index" in again.out
    assert headrace("verify", restored, "--deep").exit_code == 0
    assert numbers(restored) == [1]


def test_restore_never_writes_over_a_directory(data: Path, tmp_path: Path) -> None:
    assert headrace("backup", data, tmp_path / "backup").exit_code == 0
    ran = headrace("restore", tmp_path / "backup", data, "--yes")
    assert ran.exit_code == 78
    assert "is not empty" in ran.err
    assert numbers(data) == list(range(JOBS))


def test_damaged_backup_is_refused_before_anything_is_written(data: Path, tmp_path: Path) -> None:
    assert headrace("backup", data, tmp_path / "backup").exit_code == 0
    damage(tmp_path / "backup")
    ran = headrace("restore", tmp_path / "backup", tmp_path / "new", "--yes")
    assert ran.exit_code == 78
    assert "the backup is damaged" in ran.err
    assert not (tmp_path / "new").exists()


def test_backup_of_nothing_is_refused(tmp_path: Path) -> None:
    ran = headrace("backup", tmp_path / "nothing", tmp_path / "backup")
    assert ran.exit_code == 78
    assert "holds no headrace data" in ran.err


# --- repair


def test_repair_of_a_good_directory_has_nothing_to_do(data: Path) -> None:
    ran = headrace("repair", data)
    assert (ran.exit_code, ran.out.splitlines()[-1]) == (0, "nothing to repair")


def test_serve_refuses_damage_and_says_what_could_be_run(data: Path) -> None:
    path = damage(data)
    ran = headrace("job", "list", url=data)
    assert ran.exit_code == 78
    assert f"--truncate-at {path.name}:" in ran.err
    assert f"--truncate-at {path.name}:" in headrace("repair", data).out


def test_dry_run_says_which_jobs_are_affected_and_changes_nothing(
    data: Path, number_of: dict[str, int]
) -> None:
    at = advised_place(data)
    before = segment(data).read_bytes()
    ran = headrace("repair", data, "--truncate-at", at, "--dry-run", "--json")
    assert ran.exit_code == 0
    assert ran.json["done"] is False
    assert ran.json["unreadable_bytes"] > 0
    assert sorted(number_of[job_id] for job_id in ran.json["jobs"]) == [3, 4, 5]
    assert set(map(tuple, ran.json["jobs"].values())) == {("JobsEnqueued",)}
    assert segment(data).read_bytes() == before


def test_truncation_wants_the_number_of_jobs_typed_back(data: Path) -> None:
    at = advised_place(data)
    assert headrace("repair", data, "--truncate-at", at).exit_code == 2
    assert headrace("repair", data, "--truncate-at", at, "--accept-loss", 99).exit_code == 2
    assert headrace("verify", data).exit_code == 78

    ran = headrace("repair", data, "--truncate-at", at, "--accept-loss", JOBS - 3)
    assert ran.exit_code == 0, ran.err
    assert headrace("verify", data, "--deep").exit_code == 0
    assert numbers(data) == [0, 1]
    assert list((data / "lost+found").iterdir()) != []


def test_truncation_at_a_wrong_place_names_the_nearest_right_one(data: Path) -> None:
    name = segment(data).name
    ran = headrace("repair", data, "--truncate-at", f"{name}:{SEGMENT_HEADER_BYTES + 1}")
    assert ran.exit_code == 1
    assert f"is offset {SEGMENT_HEADER_BYTES}" in ran.err


def test_missing_current_is_rebuilt_and_nothing_is_lost(data: Path) -> None:
    (data / "meta" / "CURRENT").unlink()
    refused = headrace("job", "list", url=data)
    assert refused.exit_code == 78
    assert "--rebuild-current" in refused.err

    assert headrace("repair", data, "--rebuild-current", "--dry-run").exit_code == 0
    assert not (data / "meta" / "CURRENT").exists()
    assert headrace("repair", data, "--rebuild-current", "--yes").exit_code == 0
    assert numbers(data) == list(range(JOBS))


def test_directory_in_use_is_not_repaired(tmp_path: Path) -> None:
    with serving(tmp_path / "d") as server:
        at = f"{segment(tmp_path / 'd').name}:{SEGMENT_HEADER_BYTES}"
        ran = headrace("repair", tmp_path / "d", "--truncate-at", at, "--accept-loss", 0)
        assert ran.exit_code == 75
        assert str(server.process.pid) in ran.err


def advised_place(directory: Path) -> str:
    """SEGMENT:OFFSET as the refusal itself advises it, of a damaged directory."""
    damage(directory)
    words = headrace("job", "list", url=directory).err.split()
    return words[words.index("--truncate-at") + 1].rstrip("`,")
