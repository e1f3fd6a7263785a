"""A pytest plugin: says in a file how each test ended, and which headrace was tested.

Loaded with `-p proof.museum_probe` inside a copy of the tree; the file is named by PROBE_FILE.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec
import pytest

PROBE_FILE = "HEADRACE_PROBE_FILE"


class Ended(msgspec.Struct):
    """One phase of one test that did not just pass its set-up or clean-up."""

    test: str
    phase: str
    """`setup`, `call` or `teardown`."""
    passed: bool
    errors: list[str] = []
    """Class of what it raised, then the classes that this one derives from."""
    message: str = ""
    package: str = ""
    """Path of the headrace that it ran."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:
    report: pytest.TestReport = yield  # type: ignore[misc,assignment]
    if report.skipped or (report.passed and report.when != "call"):
        return report  # type: ignore[return-value]
    _say(_ended(item, call, report))
    return report  # type: ignore[return-value]


def _ended(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> Ended:
    import headrace

    error = call.excinfo.value if call.excinfo is not None else None
    return Ended(
        item.nodeid,
        report.when or "",
        report.passed,
        [] if error is None else [kind.__name__ for kind in type(error).__mro__],
        str(error or "").strip()[:300],
        headrace.__file__ or "",
    )


def _say(ended: Ended) -> None:
    with open(os.environ[PROBE_FILE], "ab") as file:
        file.write(msgspec.json.encode(ended) + b"\n")
