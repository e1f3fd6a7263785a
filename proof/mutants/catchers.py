"""The checks that mutants are shown to: whole harnesses first, pointed tests behind them.

A harness that tries random stories proves more by noticing than a test that was written for
the very mistake: so it is asked first, with a volume that takes seconds.
"""

from __future__ import annotations

from typing import Literal

from proof.mutants.mutant import Catcher

_TEST_LIMIT_S = 20
_PYTEST = (
    *("-m", "pytest", "-x", "-q", "--no-header", "--tb=short", "-p", "no:cacheprovider"),
    *("--hypothesis-seed", "0"),
    # A failing test may hang in what cleans up after it, where no signal is listened to.
    *("--timeout", str(_TEST_LIMIT_S), "--timeout-method", "thread"),
)


def checks(
    name: str,
    *selected: str,
    counts: Literal["tests", "seeds"] = "tests",
    limit_s: int = 120,
) -> Catcher:
    """Tests by path, by node id, or by `-k`; each test has its own limit of time."""
    return Catcher(name, (*_PYTEST, *selected), limit_s, counts)


def pointed(path: str, name: str) -> Catcher:
    """One test, or all whose names begin so."""
    return checks(f"{path}: {name.replace('_', ' ')}", f"tests/{path}", "-k", name)


def harness(
    name: str, cases: int, *, limit_s: int = 240, counts: Literal["seeds", "cases"] = "seeds"
) -> Catcher:
    """The first `cases` of a harness, up to the first that goes wrong."""
    return Catcher(name, ("-m", "proof.mutants.asking", name), limit_s, counts, cases)


# --- whole harnesses

SIM = harness("simulation", 60)
EXPLORER = harness("explorer", 20)
N_LOOP = harness("n-loop", 600, counts="cases")
WAL = harness("wal", 1_000)
ENGINE_LIVES = checks(
    "random lives of the engine",
    "tests/unit/engine/test_random_commands.py",
    "--deselect",
    "tests/unit/engine/test_random_commands.py::test_short_random_lives_hold_every_invariant",
    counts="seeds",
)
ENGINE_TWINS = checks("structures beside naive twins", "tests/unit/engine/test_twins.py")
NODE_LIVES = checks(
    "lives of a node that crashes",
    "tests/simulation/test_node_crashes.py",
    counts="seeds",
    limit_s=240,
)
LOG_FAULTS = checks("failing and full disks under the log", "tests/recovery/test_faults.py")
LOG_SUITE = checks("the suite for every log", "tests/conformance/test_logs.py")
RECOVERY_TABLE = checks("every input of the table", "tests/recovery/test_recovery_table.py")
GOLDEN = checks("golden files", "tests/unit/codec")
