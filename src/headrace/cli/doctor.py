"""`headrace doctor`: what a directory is, how its disk does, and what to look at."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import Any

import msgspec

from headrace.cli.application import noun
from headrace.cli.exits import FAILED, OK
from headrace.cli.options import COMMON, Common
from headrace.cli.output import print_facts, print_json, print_line, print_table
from headrace.cli.queue import about_bytes
from headrace.cli.serve import directory_of
from headrace.cli.times import stamp
from headrace.log.base import Probe
from headrace.log.file.inspect import Survey, survey
from headrace.log.file.layout import Layout
from headrace.log.file.probing import probe_disk
from headrace.model.env import Env
from headrace.model.errors import CannotConnect
from headrace.model.handshake import SOFTWARE_VERSION
from headrace.model.limits import CONNECTIONS_MAX, DISK_RESERVE_BYTES, SEGMENT_BYTES_DEFAULT
from headrace.runtime.env import real_env

app = noun("doctor")

SLOW_SYNC_MS = 10.0
"""Above it the disk, not headrace, decides how fast jobs are taken."""


@app.default
def doctor(directory: str | None = None, /, *, options: Common = COMMON) -> int:
    """Look a data directory and its disk over; safe on one in use.

    Writes and removes one small file, to measure how fast the disk makes it durable.
    Exit code 1 when something is wrong; warnings alone leave it 0.

    Args:
        directory: The data directory; ./data when none is named.
    """
    path, env = directory_of(options.settings(), directory), real_env()
    if env.disk.stat(path) is None:
        raise CannotConnect(f"{path} does not exist.", hint="Name a data directory.")
    found = survey(env, path)
    probe = probe_disk(env, Layout(path)) if found.format else None
    warnings = list(_warnings(env, found, probe))
    if options.json:
        print_json(_report(env, found, probe, warnings))
    else:
        _show(env, found, probe, warnings)
    return FAILED if found.problem else OK


def _warnings(env: Env, found: Survey, probe: Probe | None) -> Iterator[str]:
    if probe is not None and probe.message:
        yield probe.message
    if probe is not None and probe.sync_p99_ms > SLOW_SYNC_MS:
        yield f"the disk needs {probe.sync_p99_ms:.1f} ms (p99) to make a write durable."
    if found.free_bytes < DISK_RESERVE_BYTES + 4 * SEGMENT_BYTES_DEFAULT:
        yield f"only {about_bytes(found.free_bytes)} are free: new jobs are refused soon."
    if found.lost_found:
        yield f"lost+found holds {len(found.lost_found)} files that recovery or repair took out."
    if not found.closed_clean and not found.in_use and found.segments:
        yield "the last server did not close the directory; the next start recovers it."
    if found.torn_bytes and not found.in_use:
        yield f"{found.torn_bytes} bytes of an unfinished commit will be set aside."
    if env.host.open_files_max() < CONNECTIONS_MAX:
        yield (
            f"this user may have {env.host.open_files_max():,} files open; a server takes fewer"
            f" than {CONNECTIONS_MAX:,} connections then (`ulimit -n`)."
        )
    for snapshot in found.snapshots:
        if not snapshot.present:
            yield f"snapshot {snapshot.name} is listed and missing."


def _facts(env: Env, found: Survey, probe: Probe | None) -> list[tuple[str, object]]:
    measured = (
        f"p50 {probe.sync_p50_ms:.2f} ms, p99 {probe.sync_p99_ms:.2f} ms" if probe else "not tried"
    )
    return [
        ("directory", found.root),
        ("headrace", f"{SOFTWARE_VERSION} on Python {platform.python_version()}"),
        ("system", f"{platform.system()} {platform.release()}"),
        ("file system", found.filesystem or "unknown"),
        ("free", about_bytes(found.free_bytes)),
        ("write and sync", measured),
        ("open files", env.host.open_files_max()),
        ("in use", _holder(found)),
        ("format", found.format or ""),
        ("cluster", found.cluster_id),
        ("node", found.node_id),
        ("epoch", f"{found.epoch_number}, {found.leader}" if found.epoch_number else ""),
        ("closed", "clean" if found.closed_clean else "not"),
        ("indices", f"{found.first_index:,} to {found.last_index:,}"),
        ("watermark", f"commit {found.watermark.commit_no:,}, {found.watermark_gap} behind"),
    ]


def _holder(found: Survey) -> str:
    if found.in_use is None:
        return f"perhaps, by {found.holder.describe()}"
    return f"by {found.holder.describe()}" if found.in_use else "no"


def _report(env: Env, found: Survey, probe: Probe | None, warnings: list[str]) -> dict[str, Any]:
    return {
        **_plain(found),
        "watermark_gap": found.watermark_gap,
        "probe": _plain(probe) if probe else None,
        "open_files_max": env.host.open_files_max(),
        "version": SOFTWARE_VERSION,
        "python": platform.python_version(),
        "warnings": warnings,
    }


def _plain(struct: msgspec.Struct) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(struct)
    return plain


def _show(env: Env, found: Survey, probe: Probe | None, warnings: list[str]) -> None:
    print_facts(_facts(env, found, probe))
    if found.segments:
        print_line("")
        print_table(
            ("segment", "from index", "size", "made"),
            [
                (row.name, row.first_index, about_bytes(row.size_bytes), stamp(row.created_at_ms))
                for row in found.segments
            ],
            "",
        )
    if found.snapshots:
        print_line("")
        print_table(
            ("snapshot", "index", "size", ""),
            [
                (row.name, row.index, about_bytes(row.size_bytes), "" if row.present else "missing")
                for row in found.snapshots
            ],
            "",
        )
    print_line("")
    for sentence in warnings:
        print_line(f"warning: {sentence}")
    print_line(f"wrong: {found.problem}" if found.problem else "nothing is wrong")
