"""One workload of the log under one fault, and everything that must hold afterwards.

- What the caller sees is a typed error, never a bare `OSError`.
- `Refused`: certainly not written, and the call may be repeated. `Lost`: the log says
  that it is over, to every later call.
- No descriptor is left open, no temporary file after the next start.
- What was acknowledged is there, what was refused is not; the log goes on.
"""

from __future__ import annotations

import random

from headrace.log.base import Lost, Refused
from headrace.log.file.layout import TEMPORARY, Layout
from headrace.log.file.verify import Severity, verify
from headrace.model.errors import HeadraceError
from headrace.testing.sim_disk import SimCrash, SimDisk
from proof.n_loop.faults import Kind, heal
from proof.n_loop.log_workloads import Tale, Workload, require
from tests.recovery.story import ROOT


def calls_of(workload: Workload) -> list[str]:
    """Methods that it calls when nothing fails."""
    tale = workload.prepare()
    tale.disk.trace.clear()
    workload.act(tale)
    return [method for method, _ in tale.disk.trace]


def endure(workload: Workload, kind: Kind, number: int, *, goes_on: bool) -> str:
    """What the caller was told. Raises: `Broken`, or what recovery raises.

    `goes_on`: the process lives on, and repeats what was refused; else the machine stops
    right after the fault.
    """
    tale = workload.prepare()
    kind.plan(tale.disk, tale.disk.calls + number)
    told = act(workload, tale)
    heal(tale.disk)
    if kind.dies == "process":
        tale.disk.kill_process()
    elif kind.dies or not goes_on:
        tale.disk.crash(random.Random(number))
    else:
        live_on(workload, tale, told)
    start_again(workload, tale)
    return told


def act(workload: Workload, tale: Tale) -> str:
    try:
        workload.act(tale)
    except SimCrash:
        return "stopped"
    except HeadraceError as error:
        require(bool(error.message), "an error says what happened")
        return type(error).__name__
    return "passed"


def live_on(workload: Workload, tale: Tale, told: str) -> None:
    if told == Refused.__name__:
        workload.again(tale)
    if told == Lost.__name__:
        require(is_over(tale), "a lost log says so at every later call")
    elif workload.leads:
        tale.append()
    tale.log.close()
    left = tale.disk.open_count
    require(left == 0, f"{left} descriptors are still open")


def is_over(tale: Tale) -> bool:
    try:
        tale.log.append(tale.epoch, tale.next_commit())
    except Lost:
        return True
    return False


def start_again(workload: Workload, tale: Tale) -> None:
    """On a disk that is well."""
    workload.mend(tale)
    tale.start()
    left = temporaries(tale.disk)
    require(not left, f"left over after a start: {left}")
    tale.append(2)
    workload.after(tale)
    tale.crash()
    tale.start()
    tale.append().close()
    require(tale.disk.open_count == 0, "a closed log has no descriptor")
    for finding in verify(tale.env, ROOT):
        require(finding.severity is Severity.NOTE, f"verify: {finding.message}")


def temporaries(disk: SimDisk) -> list[str]:
    """Files that nobody will finish; a segment that is made ahead is none."""
    layout = Layout(ROOT)
    paths = [
        f"{directory}/{name}"
        for directory in (layout.root, *layout.directories)
        for name in disk.listdir(directory)
    ]
    return [path for path in paths if path.endswith(TEMPORARY) and path != layout.spare]
