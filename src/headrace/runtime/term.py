"""What the parts of one term of leading share."""

from __future__ import annotations

import asyncio

import msgspec

from headrace.engine.engine import Engine
from headrace.log.base import Epoch, Log
from headrace.model.env import Clock
from headrace.runtime.reports import Report
from headrace.runtime.stats import Stats


class Term(msgspec.Struct, frozen=True):
    """One engine over one log, in one epoch, on one loop."""

    engine: Engine
    log: Log
    epoch: Epoch
    clock: Clock
    loop: asyncio.AbstractEventLoop
    stats: Stats
    report: Report
