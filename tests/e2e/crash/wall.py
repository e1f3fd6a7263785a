"""A process whose wall clock a test moves while it runs."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.crash.rights import built_preload

HOUR_S = 3_600


class Wall:
    """The wall clock of whoever is started with `environ`; right until it is moved."""

    def __init__(self, directory: Path) -> None:
        self._offset = directory / "wall-offset"
        self.move_to(0)
        self.environ = {
            "LD_PRELOAD": str(built_preload("wall_clock")),
            "WALL_OFFSET_FILE": str(self._offset),
        }

    def move_to(self, offset_s: int) -> None:
        """So far ahead of the true time from here on, or behind it. In place: it is mapped."""
        with self._offset.open("r+b" if self._offset.exists() else "wb", buffering=0) as file:
            file.write((offset_s * 1_000_000_000).to_bytes(8, "little", signed=True))
