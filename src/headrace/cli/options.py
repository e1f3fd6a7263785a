"""Options that many commands share, and the settings that follow from them."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cyclopts import Parameter

from headrace.cli.config import Loaded, load


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """Of every command."""

    json: bool = False
    """Print JSON with the field names of the wire protocol."""
    config: str | None = None
    """Read settings from this file instead of ./headrace.toml."""
    debug: bool = False
    """Show the traceback of an error."""

    def settings(self, **flags: object) -> Loaded:
        """All settings in force. `flags`: `section__field`. Raises: `BadSettings`."""
        named = {name.replace("__", ".", 1): value for name, value in flags.items()}
        return load(named, os.environ, config=self.config)


@Parameter(name="*")
@dataclass(frozen=True)
class Remote(Common):
    """Of every command that talks to a server or opens a directory."""

    url: str | None = None
    """A data directory, headrace://HOST:PORT or unix:///PATH."""
    token_file: str | None = None
    """File with the token that the server asks for."""

    def loaded(self) -> Loaded:
        return self.settings(client__url=self.url, client__token_file=self.token_file)


COMMON = Common()
REMOTE = Remote()
"""Nothing given."""
