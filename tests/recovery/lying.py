"""Small lies in the code of the log, told while a test runs: a check that is worth its
name notices each."""

from __future__ import annotations

import inspect
import sys
import textwrap
from typing import Any

import msgspec
import pytest


class Lie(msgspec.Struct, frozen=True):
    owner: Any
    """Class or module of the function."""
    function: str
    old: str
    """A piece of its text; the test fails when that is not there any more."""
    new: str


def tell(monkeypatch: pytest.MonkeyPatch, lie: Lie) -> None:
    """The function has the other text, wherever in the log it has been imported to."""
    function = inspect.getattr_static(lie.owner, lie.function)
    text = textwrap.dedent(inspect.getsource(function))
    assert lie.old in text, "what was to be changed is not there any more"
    space: dict[str, Any] = {}
    exec(text.replace(lie.old, lie.new), inspect.unwrap(function).__globals__, space)
    changed = space[lie.function]
    monkeypatch.setattr(lie.owner, lie.function, changed)
    for name, module in list(sys.modules.items()):
        if name.startswith("headrace.log.file") and (
            getattr(module, lie.function, None) is function
        ):
            monkeypatch.setattr(module, lie.function, changed)
