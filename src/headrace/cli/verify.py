"""`headrace verify`: every checksum, and with --deep every fact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from headrace.cli.application import noun
from headrace.cli.exits import DATA, OK
from headrace.cli.options import COMMON, Common
from headrace.cli.output import print_json, print_line, progress
from headrace.cli.replay import replay_deeply
from headrace.cli.serve import directory_of
from headrace.log.file.inspect import Finding, Severity
from headrace.log.file.inspect import verify as verify_files
from headrace.log.file.layout import advise_rebuild, advise_truncate
from headrace.model.errors import StopError
from headrace.runtime.env import real_env

app = noun("verify")


@app.default
def verify(directory: str | None = None, /, *, deep: bool = False, options: Common = COMMON) -> int:
    """Check every byte of a data directory, also of one in use. Changes nothing.

    Exit code 78 when a server would refuse it, or data is damaged.

    Args:
        directory: The data directory; ./data when none is named.
        deep: Replay the log as well, check every invariant of the state, and compare the
            newest snapshot with a replay of the whole log where that reaches back.
    """
    path = directory_of(options.settings(), directory)
    findings = read(path, quiet=options.json)
    report: dict[str, Any] = {"directory": path, "findings": [fields(one) for one in findings]}
    damaged = any(one.severity is Severity.ERROR for one in findings)
    if deep and not damaged:
        report["deep"], damaged = _deep(path, quiet=options.json)
    if options.json:
        print_json(report)
    else:
        print_line("damaged" if damaged else "good")
    return DATA if damaged else OK


def read(path: str, *, quiet: bool) -> list[Finding]:
    """Every byte was read; what was found is printed, unless `quiet`."""
    with progress(f"reading {path}"):
        findings = list(verify_files(real_env(), path))
    for finding in () if quiet else findings:
        code = f" {finding.code}" if finding.code else ""
        print_line(f"{finding.severity.value}{code}: {_place(finding)}{finding.message}")
    return findings


def remedies(findings: Sequence[Finding]) -> list[str]:
    """What an operator could run, for each finding that stops a start."""
    return [
        advise_rebuild(_root(finding.path))
        if finding.code == "E-CURRENT"
        else advise_truncate(finding.path, finding.offset)
        for finding in findings
        if finding.code in ("E-CURRENT", "E-WAL-CORRUPT", "E-WAL-GAP", "E-WAL-TAIL")
    ]


def fields(finding: Finding) -> dict[str, Any]:
    return {**msgspec.structs.asdict(finding), "severity": finding.severity.value}


def _deep(path: str, *, quiet: bool) -> tuple[dict[str, Any], bool]:
    """(what replaying has shown, whether it failed)."""
    try:
        with progress("replaying") as advance:
            report = replay_deeply(real_env(), path, advance)
    except StopError as error:
        if not quiet:
            print_line(f"error {error}")
        return {"error": str(error), "stop_code": error.stop_code}, True
    if not quiet:
        of = "all of the log" if report.replayed_from_start else "the newest snapshot and the log"
        print_line(f"note: {of} replayed to index {report.last_index}, digest {report.digest}")
    return msgspec.structs.asdict(report), False


def _place(finding: Finding) -> str:
    if finding.path in finding.message:
        return ""
    return f"{finding.path}{f' at {finding.offset}' if finding.offset else ''}: "


def _root(path: str) -> str:
    return path.partition("/meta/")[0]
