"""The examples do what they say: as programs with a worker, and as tests of their own."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.sdk_kit import Program

EXAMPLES = Path(__file__).parents[2] / "examples"
WORKER = "import sys; from headrace.cli.main import main; sys.exit(main())"

SHOWN = {
    "jobs": ["→ sent default to 42"],
    "retries": [
        "charged visa in attempt 3",
        "charged busy in attempt 3",
        "stolen: CardRefused after 1 attempt(s)",
        "unknown: GiveUp after 1 attempt(s)",
        "settled after 2 looks",
    ],
    "injection": ["[1, 2, 3]"],
    "executors": ["19", "film.avi.out", "was cancelled"],
    "producing": ["created twice: False - same job: True", "'posted to reader 2499'"],
}


@pytest.mark.parametrize("name", SHOWN)
def test_example_with_a_worker_shows_what_it_promises(name: str, tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / f"{name}.py", tmp_path)
    concurrency = ["--concurrency", "1"] if name == "injection" else []
    worker = Program(WORKER, "worker", f"{name}:app", *concurrency, cwd=tmp_path)
    try:
        while worker.line() != "ready":
            pass
        done = subprocess.run(
            [sys.executable, f"{name}.py"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        worker.send(signal.SIGTERM)
        worker.end()

    assert done.returncode == 0, done.stderr
    for shown in SHOWN[name]:
        assert shown in done.stdout.replace("__main__.", "").replace(f"{name}.", "")


def test_examples_of_tests_pass() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLES / "testing")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout
