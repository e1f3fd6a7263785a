"""`headrace repair`: what may be lost is said before it is, by job.

Never guesses: without an option it only says what could be run. What is taken out of a
directory is kept in its lost+found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from headrace.cli.application import noun
from headrace.cli.exits import DATA, OK, UsageFault
from headrace.cli.options import COMMON, Common
from headrace.cli.output import confirm, confirm_by_typing, print_json, print_line
from headrace.cli.replay import jobs_of, records_of
from headrace.cli.serve import directory_of
from headrace.cli.verify import read, remedies
from headrace.log.base import Commit
from headrace.log.file.inspect import Severity, Truncation, rebuild_current, truncate_at
from headrace.runtime.env import real_env

app = noun("repair")


@app.default
def repair(
    directory: str | None = None,
    /,
    *,
    truncate_at: str | None = None,
    rebuild_current: bool = False,
    dry_run: bool = False,
    accept_loss: str | None = None,
    yes: Annotated[bool, Parameter(alias="-y")] = False,
    options: Common = COMMON,
) -> int:
    """Mend a damaged directory that nobody runs on; says first what it would lose.

    Without an option it only says what is wrong and what could be run. What is taken out
    goes to lost+found. Restoring a backup is better, if there is one.

    Args:
        directory: The data directory; ./data when none is named.
        truncate_at: SEGMENT:OFFSET; the log ends there, and what follows is lost.
        rebuild_current: Make meta/CURRENT from the files that are there; loses nothing.
        dry_run: Say which jobs are affected, and change nothing.
        accept_loss: The number of affected jobs as --dry-run gives it, where nobody can be
            asked to type it.
        yes: Do not ask before --rebuild-current.
    """
    path = directory_of(options.settings(), directory)
    if truncate_at is not None and rebuild_current:
        raise UsageFault("Give --truncate-at or --rebuild-current, not both.")
    if truncate_at is not None:
        return _truncate(path, truncate_at, dry_run, accept_loss, options)
    if rebuild_current:
        return _rebuild(path, dry_run, yes, options)
    return _advise(path, options)


def _advise(path: str, options: Common) -> int:
    findings = read(path, quiet=options.json)
    advice = remedies(findings)
    damaged = any(finding.severity is Severity.ERROR for finding in findings)
    if options.json:
        print_json({"directory": path, "damaged": damaged, "remedies": advice})
    else:
        for line in advice or [
            "nothing to repair" if not damaged else "repair cannot mend that; restore a backup"
        ]:
            print_line(line)
    return DATA if damaged else OK


# --- truncating


def _truncate(
    path: str, place: str, dry_run: bool, accept_loss: str | None, options: Common
) -> int:
    segment, offset = _place(place)
    planned = truncate_at(real_env(), path, segment, offset, dry_run=True)
    affected = affected_jobs(planned.dropped)
    if not options.json:
        _tell_loss(planned, affected)
    if not dry_run:
        confirm_by_typing(
            f"{len(affected)} jobs are affected as listed", str(len(affected)), given=accept_loss
        )
        truncate_at(real_env(), path, segment, offset)
    if options.json:
        print_json(_loss(planned, affected, done=not dry_run))
    elif not dry_run:
        print_line(f"The log ends at index {planned.last_index}; the rest is in lost+found.")
    return OK


def _place(text: str) -> tuple[str, int]:
    segment, colon, offset = text.rpartition(":")
    if not colon or not segment or not offset.isdecimal():
        raise UsageFault(f"--truncate-at {text!r} is not SEGMENT:OFFSET.")
    return segment, int(offset)


def affected_jobs(commits: Sequence[Commit]) -> dict[str, list[str]]:
    """Job id → the records about it that would be lost, in order."""
    found: dict[str, list[str]] = {}
    for commit in commits:
        for _, record in records_of(commit):
            for job_id in jobs_of(record):
                found.setdefault(job_id, []).append(type(record).__name__)
    return found


def _tell_loss(planned: Truncation, affected: dict[str, list[str]]) -> None:
    print_line(
        f"{len(planned.dropped)} commits behind {planned.segment}:{planned.offset} are dropped; "
        f"the log then ends at index {planned.last_index}."
    )
    if planned.unreadable_bytes:
        print_line(f"{planned.unreadable_bytes:,} bytes cannot be read: nobody knows their jobs.")
    for job_id, records in affected.items():
        print_line(f"  {job_id} loses {', '.join(records)}")
    print_line(f"{len(affected)} jobs are affected.")


def _loss(planned: Truncation, affected: dict[str, list[str]], *, done: bool) -> dict[str, Any]:
    return {
        "segment": planned.segment,
        "offset": planned.offset,
        "last_index": planned.last_index,
        "snapshot_index": planned.snapshot_index,
        "commits_dropped": len(planned.dropped),
        "unreadable_bytes": planned.unreadable_bytes,
        "jobs": affected,
        "done": done,
    }


# --- CURRENT


def _rebuild(path: str, dry_run: bool, yes: bool, options: Common) -> int:
    what = f"{path}/meta/CURRENT will be made from the segments and snapshots that are there"
    if dry_run:
        if options.json:
            print_json({"jobs": {}, "done": False})
        else:
            print_line(f"{what}. No job is affected.")
        return OK
    confirm(what, yes=yes)
    current = rebuild_current(real_env(), path)
    if options.json:
        print_json(
            {
                "jobs": {},
                "done": True,
                "segments": len(current.segments),
                "snapshots": len(current.snapshots),
            }
        )
    else:
        print_line(
            f"CURRENT lists {len(current.segments)} segments and"
            f" {len(current.snapshots)} snapshots. `headrace verify {path}` checks them."
        )
    return OK
