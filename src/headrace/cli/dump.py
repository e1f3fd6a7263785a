"""`headrace dump`: the facts of the log, one JSON line each."""

from __future__ import annotations

from headrace.cli.application import noun
from headrace.cli.options import COMMON, Common
from headrace.cli.output import print_json_line
from headrace.cli.replay import read_only, records_of
from headrace.cli.serve import directory_of
from headrace.cli.wire_names import plain
from headrace.runtime.env import real_env

app = noun("dump")


@app.default
def dump(
    directory: str | None = None,
    /,
    *,
    from_index: int | None = None,
    to_index: int | None = None,
    options: Common = COMMON,
) -> None:
    """Print the records of the log as JSON lines, oldest first; also of a directory in use.

    Begins where the log does: what snapshots have replaced is gone. Payloads are printed.

    Args:
        directory: The data directory; ./data when none is named.
        from_index: First record.
        to_index: Last record.
    """
    path = directory_of(options.settings(), directory)
    with read_only(real_env(), path) as (log, info):
        first = info.first_index if from_index is None else max(1, from_index)
        last = info.last_index if to_index is None else to_index
        # From the beginning: a record may lie in the middle of a commit.
        for commit in log.tail(info.first_index):
            if commit.first_index > last:
                return
            for index, record in records_of(commit):
                if first <= index <= last:
                    print_json_line(
                        {"index": index, "record": type(record).__name__, **plain(record)}
                    )
