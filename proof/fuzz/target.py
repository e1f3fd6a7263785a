"""What a fuzz target is: where its inputs begin, how they are bent, and what is checked.

Must never let a check pass in silence: whatever is no typed error leaves it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

import msgspec

from headrace.model.errors import HeadraceError, InvariantViolated

WHOLE_BYTES_MAX = 8 * 1024
"""No golden vector is longer: all of them are cut and flipped everywhere."""
ALLOCATION_FACTOR = 64
"""Bytes that a parser may hold for each byte of its input, results included. The most that
was found is 46, for a page of empty job views (a reply), and 31 for a request."""
ALLOCATION_BASE_BYTES = 512 * 1024
"""What a parser may allocate for any input: messages, error objects, read buffers."""

Mutate = Callable[[random.Random, bytes, Sequence[bytes]], bytes]
"""(chance, one input, all inputs that are kept) → a new input."""


class Broken(AssertionError):
    """Something that must hold for every input does not hold for this one."""


class Target(msgspec.Struct, frozen=True):
    """One parser, or one machine around parsers."""

    name: str
    seeds: Callable[[], list[bytes]]
    """Inputs to begin with: every golden vector that this target can read."""
    check: Callable[[bytes], str]
    """What became of the input, in a few words: see `taken` and `refused`.

    Raises: `Broken`, or what a parser must never raise.
    """
    mutate: Mutate
    modules: tuple[str, ...]
    """Whose arcs guide the search: prefixes of module names."""
    allocates: Callable[[bytes], int] | None = None
    """The most that a check may allocate; None: not measured here, since the check itself
    builds more than its parser does."""
    exhaustive_bytes_max: int = WHOLE_BYTES_MAX
    """Seeds up to this size get every bit flipped; of longer ones a sample."""
    sampled: int = 2_000
    """Cuts, and flipped bits, of a longer one."""
    weight: int = 1
    """Share of the cases, beside those of other targets."""


def linear(data: bytes) -> int:
    """The usual bound of an allocation."""
    return ALLOCATION_BASE_BYTES + ALLOCATION_FACTOR * len(data)


TAKEN = "taken"
_VARIABLE = re.compile(r"\d+|0x[0-9a-f]+|'[^']*'|\"[^\"]*\"")


def refused(error: HeadraceError) -> str:
    """The refusal without what depends on the input, so that equal reasons look equal."""
    if isinstance(error, InvariantViolated):
        raise error
    return f"{type(error).__name__}: {_VARIABLE.sub('#', error.message)[:120]}"


def expect(condition: object, sentence: str, **facts: object) -> None:
    """Nothing when `condition` holds. Raises: `Broken`."""
    if not condition:
        shown = ", ".join(f"{name}={value!r:.200}" for name, value in facts.items())
        raise Broken(f"{sentence} ({shown})")
