"""For tests: an application in memory with a virtual clock, a simulated machine, and the
suite that every log must pass.

`from headrace.testing import TestApp` for the tests of your own jobs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.testing.app import TestApp as TestApp
    from headrace.testing.virtual_clock import VirtualClock as VirtualClock

__all__ = ["TestApp", "VirtualClock"]


def __getattr__(name: str) -> Any:
    if name == "TestApp":
        from headrace.testing.app import TestApp

        return TestApp
    if name == "VirtualClock":
        from headrace.testing.virtual_clock import VirtualClock

        return VirtualClock
    raise AttributeError(f"module 'headrace.testing' has no attribute {name!r}")
