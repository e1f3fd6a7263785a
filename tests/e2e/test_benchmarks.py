"""The benchmarks run: not how fast, only that each gives every figure that its goals name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).resolve().parents[2]
SHORT = ["enqueue-one", "drain"]
LONG = [
    "enqueue-in-flight",
    "enqueue-bulk",
    "enqueue-app",
    "start-latency-idle",
    "start-latency-loaded",
    "million-waiting",
    "burst",
    "idle-connections",
    "idle-server",
    "flat-memory",
]


@pytest.mark.parametrize(
    "name", [*SHORT, *(pytest.param(name, marks=pytest.mark.long) for name in LONG)]
)
def test_scenario_gives_the_figures_of_its_goals_and_of_the_disk(name: str, tmp_path: Path) -> None:
    sizes = ["--warmup", "0.1", "--seconds", "0.2", "--scale", "0.002", "--runs", "1"]
    subprocess.run(
        [sys.executable, "benchmarks/run.py", "--only", name, "--out", str(tmp_path), *sizes],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=110,
    )
    (written,) = tmp_path.glob("*.json")
    (scenario,) = msgspec.json.decode(written.read_bytes())["scenarios"]
    assert scenario["name"] == name
    assert scenario["goals"]
    figures = scenario["median"]
    for goal in scenario["goals"]:
        assert goal.split()[0] in figures
    assert figures["disk_sync_p50_ms"] > 0
    assert figures["echo_p50_ms"] > 0
