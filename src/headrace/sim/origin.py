"""Which code it was that lived a life: a seed says nothing without it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import headrace
from headrace.model.handshake import SOFTWARE_VERSION


def origin() -> str:
    """Version, and in a clone the commit, with `+` when the tree differs from it."""
    commit = _git("rev-parse", "--short=10", "HEAD")
    changed = "+" if commit and _git("status", "--porcelain", "-uno") else ""
    return f"headrace {SOFTWARE_VERSION}{f', commit {commit}{changed}' if commit else ''}"


def _git(*arguments: str) -> str:
    """What git says of the clone that this package lies in; `` when it lies in none."""
    root = Path(headrace.__file__).parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        found = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
