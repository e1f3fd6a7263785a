"""One input given to one target: what became of it, and what that cost.

The process gets a bounded address space first: a parser that believes a length of 2^32
must fail here with a `MemoryError`, not take the machine with it.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import traceback
import tracemalloc
from collections.abc import Iterator

import msgspec

import headrace
from headrace.model.errors import HeadraceError
from proof.fuzz.target import Broken, Target, refused

ADDRESS_SPACE_BYTES = 4 << 30
SHOWN_BYTES_MAX = 200
_PACKAGE = os.path.dirname(headrace.__file__) + os.sep


class Finding(msgspec.Struct, frozen=True):
    """An input for which something does not hold."""

    target: str
    data: bytes
    problem: str
    """The exception and where it came from."""

    @property
    def cause(self) -> str:
        """Equal for inputs that show the same fault."""
        return re.split(r": | \(", self.problem, maxsplit=1)[0]

    def line(self) -> str:
        """With the command that shows it again."""
        return f"{self.target}: {self.problem} [{replay_command(self.target, self.data)}]"


def replay_command(target: str, data: bytes) -> str:
    text = data.hex()
    if len(data) > SHOWN_BYTES_MAX:
        return f"python -m proof.fuzz parsers --target {target} --input FILE"
    return f"python -m proof.fuzz parsers --target {target} --hex {text}"


@contextlib.contextmanager
def bounded_memory(size_bytes: int = ADDRESS_SPACE_BYTES) -> Iterator[None]:
    """Within it this process cannot map more than so much; nothing where that is unknown."""
    if sys.platform != "linux":
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = size_bytes if hard == resource.RLIM_INFINITY else min(size_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def judge(target: Target, data: bytes) -> tuple[str, Finding | None]:
    """(what became of it, what is wrong with that)."""
    try:
        return target.check(data), None
    except HeadraceError as error:
        return _unexpected(target, data, error)
    except Exception as error:
        return "broken", Finding(target.name, data, _shown(error))


def weigh(target: Target, data: bytes) -> tuple[int, Finding | None]:
    """(bytes that the check held at its peak, what is wrong with that); slow."""
    if target.allocates is None:
        return 0, None
    tracemalloc.start(1)
    try:
        judge(target, data)
        used_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    bound = target.allocates(data)
    if used_bytes <= bound:
        return used_bytes, None
    problem = f"allocates too much (at most {bound} bytes for {len(data)}, found {used_bytes})"
    return used_bytes, Finding(target.name, data, problem)


def _unexpected(target: Target, data: bytes, error: HeadraceError) -> tuple[str, Finding | None]:
    """A typed refusal that the check has let through; invariants are no refusals."""
    try:
        return refused(error), None
    except HeadraceError:
        return "broken", Finding(target.name, data, _shown(error))


def _shown(error: BaseException) -> str:
    """The error with the innermost place of headrace's own code."""
    if isinstance(error, Broken):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(_PACKAGE)] or list(frames)
    place = f"{ours[-1].filename.removeprefix(_PACKAGE)}:{ours[-1].lineno}" if ours else ""
    return f"{type(error).__name__} at {place}: {error!s:.300}"
