"""`headrace restore`: a data directory from a backup, after the backup was verified."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from headrace.cli.application import noun
from headrace.cli.backup import tell
from headrace.cli.copying import watched
from headrace.cli.options import COMMON, Common
from headrace.cli.output import confirm
from headrace.cli.serve import local_path
from headrace.log.file.inspect import restore as restore_files
from headrace.runtime.env import real_env

app = noun("restore")


@app.default
def restore(
    backup: str,
    directory: str,
    /,
    *,
    yes: Annotated[bool, Parameter(alias="-y")] = False,
    options: Common = COMMON,
) -> None:
    """Make a data directory from a backup, which is verified first.

    Jobs that have run since the backup will run again. Nothing is overwritten: move a
    directory that is there out of the way first.

    Args:
        backup: What `headrace backup` has made.
        directory: A directory that does not exist yet, or is empty.
        yes: Do not ask.
    """
    source, path = local_path(backup), local_path(directory)
    confirm(f"{path} will hold the jobs of {source}; what ran since then runs again", yes=yes)
    with watched(path, source):
        report = restore_files(real_env(), source, path)
    tell(report, path, as_json=options.json)
