"""The real seam for applications that bring none of their own.

The one place of the SDK, with `embedded`, that knows the runtime; imported lazily, so
that a client of a remote server loads no engine.
"""

from __future__ import annotations

import functools

from headrace.model.env import Env


@functools.cache
def default_env() -> Env:
    from headrace.runtime.env import real_env

    return real_env()
