"""Every log that headrace has passes the suite that third parties run on theirs."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from headrace.log.base import Log
from headrace.log.file.log import FileLog
from headrace.log.memory import MemoryLog, MemoryStore
from headrace.runtime.env import real_env
from headrace.testing.log_suite import LogSite, LogSuite
from headrace.testing.sim_env import SimEnv

SEGMENT_BYTES = 16 * 1024


class MemorySite:
    def __init__(self) -> None:
        self.env = SimEnv()
        self.store = MemoryStore(self.env)

    def new_log(self) -> Log:
        return MemoryLog(self.env, self.store)

    def crash(self) -> None:
        self.store.crash()


class SimSite:
    """A file log on a simulated disk, where a crash loses all that was not synced."""

    def __init__(self) -> None:
        self.env = SimEnv()

    def new_log(self) -> Log:
        return FileLog(self.env, "/data", segment_bytes=SEGMENT_BYTES)

    def crash(self) -> None:
        self.env.disk.crash(random.Random(1))


class RealSite:
    """A file log on this machine's disk, where a crash is the end of its descriptors."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.logs: list[FileLog] = []

    def new_log(self) -> Log:
        log = FileLog(real_env(), str(self.directory), segment_bytes=SEGMENT_BYTES)
        self.logs.append(log)
        return log

    def crash(self) -> None:
        for log in self.logs:
            log.abandon()


class TestMemoryLog(LogSuite):
    @pytest.fixture
    def site(self) -> LogSite:
        return MemorySite()


class TestFileLogOnSimulatedDisk(LogSuite):
    @pytest.fixture
    def site(self) -> LogSite:
        return SimSite()


class TestFileLogOnRealDisk(LogSuite):
    @pytest.fixture
    def site(self, tmp_path: Path) -> LogSite:
        return RealSite(tmp_path / "data")
