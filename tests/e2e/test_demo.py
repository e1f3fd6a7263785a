"""`make run`: what it shows, and that nothing is lost when its processes are killed."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.cli_kit import ENVIRON, headrace

RUN = Path(__file__).parents[2] / "examples" / "demo" / "run.py"
FILES = 60
DEADLINE_S = 100


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("texts")
    for number in range(FILES):
        (directory / f"{number:02}.txt").write_text(f"file {number}\n" + "word " * number + "\n")
    (directory / "same.txt").write_text((directory / "00.txt").read_text())
    (directory / "binary.bin").write_bytes(b"\0\1\2")
    return directory


def run(where: Path, texts: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(RUN)],
        cwd=where,
        env={**ENVIRON, "HEADRACE_SERVER__LISTEN": "127.0.0.1:0", "DIR": str(texts), **environ},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of all runs that succeed."""
    return tmp_path_factory.mktemp("where")


@pytest.fixture(scope="module")
def first_run(where: Path, texts: Path) -> subprocess.CompletedProcess[str]:
    return run(where, texts, ONCE="1")


def test_nothing_is_lost_when_worker_and_server_are_killed(
    first_run: subprocess.CompletedProcess[str], where: Path, texts: Path
) -> None:
    said = first_run.stdout
    assert first_run.returncode == 0, said + first_run.stderr
    assert f"{FILES + 1} text files below {texts}" in said
    assert re.search(r"After \d+ results the worker was killed", said)
    assert re.search(r"After \d+ results the server was killed", said)
    assert "Nothing was lost: every job reached its final state." in said
    assert f"{FILES + 1} files, " in said
    assert "1 duplicates" in said
    retried = re.search(r"retried +(\d+) jobs", said)
    assert retried is not None
    assert int(retried[1]) >= FILES // 20
    assert headrace("verify", where / "data", "--deep").exit_code == 0


def test_second_run_on_the_same_data_works_and_serves_until_a_signal(
    first_run: subprocess.CompletedProcess[str], where: Path, texts: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", str(RUN)],
        cwd=where,
        env={**ENVIRON, "HEADRACE_SERVER__LISTEN": "127.0.0.1:0", "DIR": str(texts)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert any("The server goes on" in line for line in process.stdout)
        assert headrace("health", url=where / "data").exit_code == 0
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.communicate()
    assert headrace("health", url=where / "data").exit_code == 1
    assert headrace("doctor", where / "data", "--json").json["closed_clean"] is True


def test_busy_port_is_a_sentence(tmp_path: Path, texts: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        ran = run(tmp_path, texts, HEADRACE_SERVER__LISTEN=address)
    assert ran.returncode == 2
    (sentence,) = ran.stderr.splitlines()
    assert sentence.startswith(f"cannot listen on {address}: another process listens there")


def test_directory_without_text_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for named in (tmp_path / "empty", tmp_path / "nowhere"):
        ran = run(tmp_path, named)
        assert ran.returncode == 2
        assert len(ran.stderr.splitlines()) == 1
        assert os.fspath(named) in ran.stderr
