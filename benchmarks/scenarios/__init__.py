"""One file a scenario; `ALL` in the order in which they are run."""

from __future__ import annotations

from harness.scenario import Scenario

from scenarios import (
    burst,
    drain,
    enqueue_app,
    enqueue_bulk,
    enqueue_in_flight,
    enqueue_one,
    flat_memory,
    idle_connections,
    idle_server,
    million_waiting,
    start_latency,
    start_latency_loaded,
)

ALL: dict[str, Scenario] = {
    module.SCENARIO.name: module.SCENARIO
    for module in (
        enqueue_one,
        enqueue_in_flight,
        enqueue_bulk,
        enqueue_app,
        drain,
        start_latency,
        start_latency_loaded,
        million_waiting,
        burst,
        idle_connections,
        idle_server,
        flat_memory,
    )
}
