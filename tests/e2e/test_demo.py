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


def test_nothing_is_lost_when_worker_and_server_are_killed(tmp_path: Path, texts: Path) -> None:
    ran = run(tmp_path, texts, ONCE="1")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{FILES + 1} text files below {texts}" in ran.stdout
    assert re.search(r"After \d+ results the worker was killed", ran.stdout)
    assert re.search(r"After \d+ results the server was killed", ran.stdout)
    assert "Nothing was lost: every job reached its final state." in ran.stdout
    assert f"{FILES + 1} files, " in ran.stdout
    assert "1 duplicates" in ran.stdout
    retried = re.search(r"retried +(\d+) jobs", ran.stdout)
    assert retried is not None
    assert int(retried[1]) >= FILES // 20
    assert headrace("verify", tmp_path / "data", "--deep").exit_code == 0


def test_second_run_on_the_same_data_works_and_serves_until_a_signal(
    tmp_path: Path, texts: Path
) -> None:
    assert run(tmp_path, texts, ONCE="1").returncode == 0
    process = subprocess.Popen(
        [sys.executable, "-u", str(RUN)],
        cwd=tmp_path,
        env={**ENVIRON, "HEADRACE_SERVER__LISTEN": "127.0.0.1:0", "DIR": str(texts)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert any("The server goes on" in line for line in process.stdout)
        assert headrace("health", url=tmp_path / "data").exit_code == 0
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.communicate()
    assert headrace("health", url=tmp_path / "data").exit_code == 1
    assert headrace("doctor", tmp_path / "data", "--json").json["closed_clean"] is True


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
