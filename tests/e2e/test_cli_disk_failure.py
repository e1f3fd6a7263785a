"""A disk that fails under a command: the exit code, the words, and no lie about the outcome."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import pytest

from headrace.cli import serve, target
from headrace.model.env import Env, EnvParts
from headrace.runtime.env import real_env
from headrace.runtime.real_disk import RealDisk
from tests.e2e.cli_kit import Program, headrace, serving

JOB_ID = "0190f3a2-7b1c-7def-8123-00000000feed"


class FailingDisk(RealDisk):
    """The real one, until it breaks; then no sync succeeds."""

    broken = False

    def fdatasync(self, fd: int) -> None:
        if self.broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().fdatasync(fd)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FailingDisk:
    disk = FailingDisk()
    real = real_env()
    assert isinstance(real, EnvParts)
    env: Env = msgspec.structs.replace(real, disk=disk)
    monkeypatch.setattr(target, "real_env", lambda: env)
    monkeypatch.setattr(serve, "real_env", lambda: env)
    return disk


def test_command_whose_disk_fails_ends_with_74_and_the_stop_code(
    tmp_path: Path, disk: FailingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory is opened while the disk is well; it breaks before the job is written."""
    assert headrace("enqueue", "k", url=tmp_path / "d").exit_code == 0
    submit = target.Client.submit

    def break_first(self: object, *arguments: object) -> object:
        disk.broken = True
        return submit(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(target.Client, "submit", break_first)
    ran = headrace("enqueue", "lost", url=tmp_path / "d")
    assert ran.exit_code == 74
    assert "E-FSYNC" in ran.err
    assert ran.out == ""

    disk.broken = False
    assert headrace("verify", tmp_path / "d", "--deep").exit_code == 0


def test_server_whose_disk_fails_ends_with_74_and_its_client_does_not_know(
    tmp_path: Path, disk: FailingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients: list[Program] = []

    def break_and_ask(urls: list[str]) -> None:
        disk.broken = True
        clients.append(Program("enqueue", "k", "--id", JOB_ID, "--url", urls[0]))

    monkeypatch.setattr(serve, "_announce", break_and_ask)
    ran = headrace("serve", tmp_path / "d", "--listen", "127.0.0.1:0", "--log-format", "json")
    assert ran.exit_code == 74
    assert "E-FSYNC" in ran.err
    assert "leader_failed" in ran.err

    disk.broken = False
    (client,) = clients
    with client, serving(tmp_path / "d"):
        # It repeats its call with the same id as soon as there is a server again.
        assert client.ended() == 0
        assert client.until(JOB_ID) == JOB_ID
    assert headrace("verify", tmp_path / "d", "--deep").exit_code == 0
