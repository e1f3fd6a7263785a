"""Which workload a seed stands for."""

from __future__ import annotations

from proof.explorer.node_traces import node_trace
from proof.explorer.scenarios import SCENARIOS, record
from proof.explorer.trace import Trace

KINDS = (*SCENARIOS, "node")


def trace_of(seed: int, calls_max: int) -> Trace:
    """Always the same for the same arguments."""
    kind = KINDS[seed % len(KINDS)]
    if kind == "node":
        return node_trace(seed, calls_max)
    return record(kind, seed, calls_max)
