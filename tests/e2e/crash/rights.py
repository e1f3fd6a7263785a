"""What a machine must allow for a test of real faults, asked by trying it once.

A probe says what lacks here, or None. A test that needs it is skipped with that reason; in CI,
where the script installs what is a package, a missing package fails it. The long runs name on
their page what did not run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import msgspec

PRELOADS = Path(__file__).resolve().parents[1] / "preload"


class Lack(msgspec.Struct, frozen=True):
    """Why something does not work on this machine."""

    reason: str
    is_package: bool = False
    """Installing a package would do; else it is a right, or another system."""


class DoesNotRun(Exception):
    def __init__(self, lack: Lack) -> None:
        super().__init__(lack.reason)
        self.lack = lack


@cache
def no_injection() -> Lack | None:
    """No system call can be made to fail."""
    if not shutil.which("strace"):
        return Lack("strace is not installed", is_package=True)
    probe = ["strace", "-qq", "-o", "/dev/null", "-e", "inject=fdatasync:error=EIO", "true"]
    return _failure(probe, "strace may not trace here")


@cache
def no_preload() -> Lack | None:
    """No library of ours can be put before libc."""
    if os.uname().sysname != "Linux":
        return Lack("the libraries to be put before libc are written for Linux")
    return None if shutil.which("cc") else Lack("no C compiler (cc) is installed", is_package=True)


def no_lazyfs() -> Lack:
    """Power cuts are made by a recorder of our own."""
    return Lack(
        "LazyFS: it is no package, and nothing here fetches sources to build. Power cuts are made"
        " by a library before libc and a simulated medium, which loses directory entries too."
    )


def require(lack: Lack | None) -> None:
    """Raises: `DoesNotRun` if there is a lack."""
    if lack is not None:
        raise DoesNotRun(lack)


@cache
def built_preload(name: str) -> Path:
    """`preload/NAME.c` as a library that LD_PRELOAD takes; built once a process.

    Raises: `DoesNotRun` without a compiler; `CalledProcessError` when it does not compile.
    """
    require(no_preload())
    library = Path(tempfile.mkdtemp(prefix="headrace-preload-")) / f"{name}.so"
    command = ["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(library)]
    subprocess.run(
        [*command, str(PRELOADS / f"{name}.c"), "-ldl", "-lpthread"], check=True, timeout=60
    )
    return library


def _failure(command: list[str], what: str) -> Lack | None:
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except OSError as error:
        return Lack(f"{what}: {error}")
    said = ran.stderr.strip() or str(ran.returncode)
    return None if ran.returncode == 0 else Lack(f"{what}: {said}")
