"""Real processes as the checkers of the simulator see a life: one history, and its end.

Calls, pushes and handlers are what members witnessed. Of records only the order is known, and
that one cannot be older than the call that caused it: each gets the latest time that is
certainly not after its commit, so that no checker can take an early answer for a late one, nor
the other way round.

What nobody can see of real processes is left out: gauges, sessions, leases, recoveries and
digests of a live state, reads and waits, when connections and faults began and ended. Checkers
that judge nothing else have nothing to look at here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from headrace.cli.replay import read_only, records_of
from headrace.model import commands, records
from headrace.model.replies import JobView
from headrace.runtime.env import real_env
from headrace.sim.checkers import Judgement, check_all
from headrace.sim.final import UNANSWERED, Checkup, Final
from headrace.sim.history import Call, Event, History, Recorded
from tests.e2e.crash.witness import Called, Returned, testimonies

UNSEEN = UNANSWERED - {"Started"}
Cause = tuple[str, bytes, int]
"""Verb, job and token of what a record may be of."""


def judged(
    journal: Path,
    directory: Path,
    views: Sequence[JobView],
    complaints: Sequence[str] = (),
) -> Judgement:
    """What all checkers say of members, log and views; `complaints` are those of `verify`."""
    history = _witnessed(journal)
    log = _log_of(directory, _earliest(history.calls))
    history.events = sorted([*history.events, *log], key=_time_of)
    final = Final(
        at_ns=time.monotonic_ns(),
        gone_actors=frozenset(call.actor for call in history.calls),
        unseen=UNSEEN,
        records=log,
        jobs={view.job_id: view for view in views},
        checkups=[Checkup(time.monotonic_ns(), "verify", list(complaints))],
    )
    return check_all(history, final)


def _witnessed(journal: Path) -> History:
    history = History()
    under_way: dict[tuple[str, int], Call] = {}
    for said in testimonies(journal):
        if isinstance(said, Called):
            call = history.call(said.actor, said.command, said.at_ns)
            under_way[said.actor, said.number] = call
        elif isinstance(said, Returned):
            call = under_way.pop((said.actor, said.number))
            call.returned_ns, call.reply, call.error = said.at_ns, said.reply, said.error
        else:
            history.events.append(said)
    return history


def _log_of(directory: Path, earliest_ns: dict[Cause, int]) -> list[Recorded]:
    found: list[Recorded] = []
    at_ns = 0
    with read_only(real_env(), str(directory)) as (log, info):
        for commit in log.tail(info.first_index):
            numbered = list(records_of(commit))
            causes = [cause for _, record in numbered for cause in _causes_of_record(record)]
            not_before_ns = max((earliest_ns.get(cause, 0) for cause in causes), default=0)
            at_ns = max(at_ns + 1, not_before_ns)  # one time a commit, and no other has it
            found += [Recorded(at_ns, index, commit.now_ms, one) for index, one in numbered]
    return found


def _earliest(calls: Sequence[Call]) -> dict[Cause, int]:
    """When what a record may be of was asked for first."""
    found: dict[Cause, int] = {}
    for call in calls:
        for cause in _causes_of_command(call.command):
            found.setdefault(cause, call.called_ns)
    return found


def _causes_of_command(command: commands.Command) -> list[Cause]:
    match command:
        case commands.Enqueue():
            return [("enqueue", new.job_id, 0) for new in command.jobs]
        case commands.Cancel():
            return [("cancel", command.job_id, 0)]
        case commands.Ack():
            return [("ack", job_id, token) for job_id, token, _ in command.results]
        case commands.Nack():
            return [("nack", one.job_id, one.token) for one in command.failures]
        case commands.Release():
            return [("release", one.job_id, one.token) for one in command.jobs]
    return []


def _causes_of_record(record: records.Record) -> list[Cause]:
    match record:
        case records.JobsEnqueued():
            return [("enqueue", new.job_id, 0) for new in record.jobs]
        case records.JobsCancelled():
            return [("cancel", job_id, 0) for job_id, _ in record.leases]
        case records.JobsSucceeded():
            return [("ack", job_id, token) for job_id, token, _ in record.results]
        case records.JobFailed():
            return [("nack", record.job_id, record.token)]
        case records.JobsReleased():
            return [("release", one.job_id, one.token) for one in record.jobs]
    return []


def _time_of(event: Event) -> int:
    return event.at_ns
