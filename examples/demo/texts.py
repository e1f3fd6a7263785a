"""The real input of the demo: text files below one directory, not too many."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

FILES_MAX = 2_000
FILE_BYTES_MAX = 256 * 1024
TOTAL_BYTES_MAX = 64 * 1024 * 1024
_SKIPPED = {"__pycache__", "node_modules", "data", "build", "dist", "results"}


def text_files(directory: Path) -> list[Path]:
    """In order of their names; bounded in number, size and size together."""
    found: list[Path] = []
    total_bytes = 0
    for path in _files(directory):
        size_bytes = path.stat().st_size
        if not 0 < size_bytes <= FILE_BYTES_MAX or not _is_text(path):
            continue
        total_bytes += size_bytes
        if len(found) == FILES_MAX or total_bytes > TOTAL_BYTES_MAX:
            break
        found.append(path)
    return found


def _files(directory: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(directory):
        folders[:] = sorted(
            name
            for name in folders
            if name[0] != "." and name not in _SKIPPED and not name.endswith(".egg-info")
        )
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
                yield path


def _is_text(path: Path) -> bool:
    with path.open("rb") as file:
        return b"\0" not in file.read(1_024)
