"""Which steps from line to line a call takes, in the modules that a target names.

`sys.monitoring` where Python has it (3.12), `sys.settrace` before. Only code of the
modules that were asked for is watched; everything else runs untouched.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from types import CodeType, FrameType
from typing import Any, Protocol

Arc = int
TOOL = 4
"""Of the numbers that `sys.monitoring` gives away, one that nobody has by convention."""


class Watcher(Protocol):
    def arcs_of(self, call: Callable[[], Any]) -> set[Arc]:
        """The steps that `call` took; what it raised is raised on."""


def watcher(modules: Sequence[str]) -> Watcher:
    """For the modules whose names begin with one of these."""
    paths = tuple(f"/{name.replace('.', '/')}" for name in modules)
    if hasattr(sys, "monitoring"):
        return _Monitored(paths)
    return _Traced(paths)


@contextlib.contextmanager
def unwatched() -> Iterator[None]:
    """Within it nothing is watched: for what a check does around the parser."""
    if hasattr(sys, "monitoring"):
        monitoring = sys.monitoring
        events = monitoring.get_events(TOOL) if monitoring.get_tool(TOOL) else 0
        if not events:
            yield
            return
        monitoring.set_events(TOOL, 0)
        try:
            yield
        finally:
            monitoring.set_events(TOOL, events)
        return
    earlier = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(earlier)


def _is_watched(code: CodeType, paths: tuple[str, ...]) -> bool:
    return any(path in code.co_filename for path in paths)


def _arc(code: CodeType, before: int, line: int) -> Arc:
    return hash((code.co_filename, code.co_firstlineno, before, line))


class _Traced:
    def __init__(self, paths: tuple[str, ...]) -> None:
        self._paths = paths
        self._known: dict[CodeType, bool] = {}
        self._found: set[Arc] = set()
        self._before: dict[int, int] = {}

    def arcs_of(self, call: Callable[[], Any]) -> set[Arc]:
        self._found = set()
        earlier = sys.gettrace()
        sys.settrace(self._on_call)
        try:
            call()
        finally:
            sys.settrace(earlier)
        return self._found

    def _on_call(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        watched = self._known.get(code)
        if watched is None:
            watched = self._known[code] = _is_watched(code, self._paths)
        if not watched:
            return None
        self._before[id(frame)] = 0
        return self._on_line

    def _on_line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "return":
            self._before.pop(id(frame), None)
        elif event == "line":
            before = self._before.get(id(frame), 0)
            self._found.add(_arc(frame.f_code, before, frame.f_lineno))
            self._before[id(frame)] = frame.f_lineno
        return self._on_line


class _Monitored:
    """Steps are told apart by the line before in the same code: enough to find branches.

    Code that was met unwatched stays so, whoever watches next, until it is forgotten.
    """

    _met_for: tuple[str, ...] = ()
    """The paths of whoever watched last."""

    def __init__(self, paths: tuple[str, ...]) -> None:
        self._paths = paths
        self._found: set[Arc] = set()
        self._before: dict[CodeType, int] = {}

    def arcs_of(self, call: Callable[[], Any]) -> set[Arc]:
        monitoring = sys.monitoring  # type: ignore[attr-defined]
        self._found, self._before = set(), {}
        monitoring.use_tool_id(TOOL, "headrace-fuzz")
        events = monitoring.events.LINE
        monitoring.register_callback(TOOL, events, self._on_line)
        monitoring.set_events(TOOL, events)
        if _Monitored._met_for != self._paths:
            monitoring.restart_events()
            _Monitored._met_for = self._paths
        try:
            call()
        finally:
            monitoring.set_events(TOOL, 0)
            monitoring.register_callback(TOOL, events, None)
            monitoring.free_tool_id(TOOL)
        return self._found

    def _on_line(self, code: CodeType, line: int) -> Any:
        if not _is_watched(code, self._paths):
            return sys.monitoring.DISABLE  # type: ignore[attr-defined]
        self._found.add(_arc(code, self._before.get(code, 0), line))
        self._before[code] = line
        return None


def lines_run(modules: Sequence[str], call: Callable[[], Any]) -> int:
    """How many lines of these modules `call` runs: work that is counted, not timed."""
    paths = tuple(f"/{name.replace('.', '/')}" for name in modules)
    count = 0

    def on_call(frame: FrameType, event: str, argument: Any) -> Any:
        return on_line if _is_watched(frame.f_code, paths) else None

    def on_line(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return on_line

    earlier = sys.gettrace()
    sys.settrace(on_call)
    try:
        call()
    finally:
        sys.settrace(earlier)
    return count
