"""What a mutant is, and what a catcher is. Values only."""

from __future__ import annotations

from typing import Literal

import msgspec

CLASSES = ("engine", "log", "runtime", "client", "wire")


class Catcher(msgspec.Struct, frozen=True):
    """A command that fails when what it checks is broken. On good code it passes."""

    name: str
    """The checker, in the words of the page of evidence."""
    arguments: tuple[str, ...]
    """What follows `python`, in the root of the repository."""
    limit_s: int = 60
    """A catcher that takes longer has noticed nothing: it must have limits of its own."""
    counts: Literal["tests", "seeds", "cases"] = "tests"
    """What went by until it failed."""
    cases: int = 0
    """How many it is asked for, as its last argument; 0: it decides itself."""

    @property
    def command(self) -> tuple[str, ...]:
        return (*self.arguments, str(self.cases)) if self.cases else self.arguments


class Mutant(msgspec.Struct, frozen=True, kw_only=True):
    """One mistake, as one change of one file."""

    name: str
    mistake: str
    """What goes wrong with it, in a sentence."""
    shipped_by: str = ""
    """Who lived with it, when the world knows."""
    path: str
    """Of the file, below `src/headrace`."""
    old: str
    """Occurs exactly once there."""
    new: str
    breaks: str
    """Invariants (I1 to I15) and clauses of the contract that no longer hold."""
    catchers: tuple[Catcher, ...]
    """Who should notice, in the order in which they are asked."""
    reached_at: str = ""
    """Where to see that the change takes part, when it is none inside a function: a text that
    occurs once in the changed file, in a statement that runs when the change matters."""
