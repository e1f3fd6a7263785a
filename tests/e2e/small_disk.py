"""A file system of a few MiB for one test, which can be filled and emptied."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

EXT4 = "ext4"
"""An image on a loop device."""
TMPFS = "tmpfs"


class SmallDisk:
    """A mounted file system; ballast takes its room and gives it back."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._ballast = root / "ballast"

    def free_bytes(self) -> int:
        found = os.statvfs(self.root)
        return found.f_bavail * found.f_frsize

    def leave(self, free_bytes: int) -> None:
        """So much is free, as nearly as blocks allow."""
        taken = self._ballast.stat().st_size if self._ballast.exists() else 0
        with self._ballast.open("ab") as file:
            size_bytes = taken + self.free_bytes() - free_bytes
            file.truncate(min(taken, size_bytes))
            if size_bytes > taken:
                with contextlib.suppress(OSError):
                    os.posix_fallocate(file.fileno(), 0, size_bytes)
            os.fsync(file.fileno())

    def brim(self) -> None:
        """Nothing is free."""
        with (
            (self.root / "ballast 2").open("ab", buffering=0) as file,
            contextlib.suppress(OSError),
        ):
            while True:
                file.write(bytes(4096))

    def relieve(self) -> None:
        for path in self.root.glob("ballast*"):
            path.unlink()


@contextlib.contextmanager
def small_disk(directory: Path, size_bytes: int, kind: str = EXT4) -> Iterator[SmallDisk]:
    """Needs root. Without it, or without mounts, the test is skipped; in CI, as root, it fails."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    image, root = directory / "disk.img", directory / "disk"
    root.mkdir()
    image.touch()
    for command in _mounting(kind, image, root, size_bytes):
        if problem := _failed(command):
            reason = f"{command[0]} does not work here: {problem}"
            pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    try:
        yield SmallDisk(root)
    finally:
        _failed(["umount", "--lazy", str(root)])
        image.unlink()


def _mounting(kind: str, image: Path, root: Path, size_bytes: int) -> list[list[str]]:
    if kind == TMPFS:
        return [["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(root)]]
    os.truncate(image, size_bytes)
    return [
        ["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", str(image)],
        ["mount", "-o", "loop", str(image), str(root)],
    ]


def _failed(command: list[str]) -> str:
    """What it complained of; `` when it worked."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        return str(error)
    return "" if ran.returncode == 0 else ran.stderr.strip() or "failed"
