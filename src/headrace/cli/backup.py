"""`headrace backup`: a copy of one moment, also of a directory in use."""

from __future__ import annotations

import msgspec

from headrace.cli.application import noun
from headrace.cli.copying import watched
from headrace.cli.options import COMMON, Common
from headrace.cli.output import print_json, print_line
from headrace.cli.queue import about_bytes
from headrace.cli.serve import local_path
from headrace.log.file.inspect import CopyReport, copy_consistent
from headrace.runtime.env import real_env

app = noun("backup")


@app.default
def backup(directory: str, target: str, /, *, options: Common = COMMON) -> None:
    """Copy a data directory, also one in use, as it is at one moment.

    Everything acknowledged before the command began is in the copy, which is a data
    directory itself: `headrace serve` opens it.

    Args:
        directory: The data directory.
        target: A directory that does not exist yet, or is empty.
    """
    source, path = local_path(directory), local_path(target)
    with watched(path, source):
        report = copy_consistent(real_env(), source, path)
    tell(report, path, as_json=options.json)


def tell(report: CopyReport, path: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"directory": path, **msgspec.structs.asdict(report)})
        return
    print_line(
        f"{path} holds everything up to index {report.last_index}: "
        f"{report.segment_count} segments, "
        + (f"a snapshot of index {report.snapshot_index}, " if report.snapshot_index else "")
        + f"{about_bytes(report.copied_bytes)}."
    )
