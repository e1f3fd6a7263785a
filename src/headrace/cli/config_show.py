"""`headrace config`: what is in force, and where it comes from."""

from __future__ import annotations

from headrace.cli.application import noun
from headrace.cli.options import REMOTE, Remote
from headrace.cli.output import print_json, print_table
from headrace.cli.wire_names import plain

app = noun("config", "Show every setting and its source.")


@app.command
def show(*, options: Remote = REMOTE) -> None:
    """Show every setting: value and source (a flag, a variable, a file, or the default).

    With --json, durations are whole ms and sizes whole bytes.
    """
    loaded = options.loaded()
    if not options.json:
        print_table(("setting", "value", "source"), loaded.rows(), "")
        return
    values = {
        name: getattr(getattr(loaded.settings, section), field)
        for name, (section, field) in ((row[0], row[0].split(".")) for row in loaded.rows())
    }
    print_json(
        {
            name: {"value": plain(value), "source": loaded.sources[name]}
            for name, value in values.items()
        }
    )
