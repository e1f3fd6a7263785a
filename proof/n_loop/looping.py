"""All cases: a workload, a kind of fault, the call that it befalls, and what comes then."""

from __future__ import annotations

import random
import traceback

import msgspec

from headrace.testing.sim_disk import SimCrash
from proof.n_loop.faults import KINDS
from proof.n_loop.log_loop import calls_of, endure
from proof.n_loop.log_workloads import WORKLOADS
from proof.n_loop.node_loop import NAME as NODE
from proof.n_loop.node_loop import calls_of_node, endure_node

GOES_ON = "goes on"
THEN = (GOES_ON, "machine stops")
_WORKLOADS = {workload.name: workload for workload in WORKLOADS}
_KINDS = {kind.name: kind for kind in KINDS}
NAMES = (*_WORKLOADS, NODE)


class Case(msgspec.Struct, frozen=True):
    workload: str
    kind: str
    call: int
    then: str = GOES_ON
    """After an error: the process goes on, or the machine stops."""

    def describe(self) -> str:
        return f"{self.workload}: {self.kind} at call {self.call}; then it {self.then}"

    def command(self) -> str:
        return (
            f'python -m proof.n_loop --workload "{self.workload}" --kind "{self.kind}" '
            f'--call {self.call} --then "{self.then}"'
        )


def cases(workload: str = "", kind: str = "") -> list[Case]:
    """Of that workload and kind, or of all; mixed, so that any part of them is a sample."""
    found = []
    for name in [workload] if workload else NAMES:
        methods = calls_of_node() if name == NODE else calls_of(_WORKLOADS[name])
        for chosen in [_KINDS[kind]] if kind else KINDS:
            then = (GOES_ON,) if chosen.dies or name == NODE else THEN
            for call, method in enumerate(methods, 1):
                if chosen.fits(method):
                    found += [Case(name, chosen.name, call, one) for one in then]
    random.Random(0).shuffle(found)
    return found


def endure_case(case: Case) -> tuple[str, str]:
    """What the caller was told, and what is wrong; empty when nothing is."""
    kind = _KINDS[case.kind]
    try:
        if case.workload == NODE:
            return endure_node(kind, case.call), ""
        workload = _WORKLOADS[case.workload]
        return endure(workload, kind, case.call, goes_on=case.then == GOES_ON), ""
    except (Exception, SimCrash) as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{where.filename.rpartition('/')[2]}:{where.lineno}"
        return "broken", f"{type(error).__name__}: {error} ({place})"


def beyond(workload: str) -> tuple[str, str]:
    """With the fault at a call after the last one: the workload passes untouched."""
    methods = calls_of_node() if workload == NODE else calls_of(_WORKLOADS[workload])
    return endure_case(Case(workload, "EIO", 10 * len(methods)))
