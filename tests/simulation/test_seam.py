"""Nothing reaches around the seam, and nothing depends on what differs from run to run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

RUN_S_MAX = 60


def told(*arguments: str, hash_seed: str = "0") -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.simulation.seam_story", *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=RUN_S_MAX
    )
    assert ended.returncode == 0, ended.stderr
    story: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    assert story["errors"] == []
    return story


def test_no_code_behind_the_seam_makes_a_system_call() -> None:
    assert told("--watched")["system_calls"] == []


def test_watch_sees_the_system_calls_of_code_that_makes_some() -> None:
    calls = told("--watched", "--broken")["system_calls"]

    assert [call for call in calls if "broken.py" not in call] == []
    assert {call.split(" ")[0] for call in calls} >= {"posix.stat", "time.monotonic", "open"}


def test_story_is_the_same_whatever_strings_hash_to() -> None:
    first, *others = (told(hash_seed=seed) for seed in ("0", "1", "4294967295"))

    assert first["messages"] > 1_000
    assert any("wal" in path for path in first["disk"])
    assert others == [first, first]
