"""The checkers: small classes, each with one promise to look after.

`ALL` names them; `check_all` shows one life to each. What the list of invariants has and this
product has not yet is in `NOT_APPLICABLE`, with the reason.
"""

from __future__ import annotations

import msgspec

from headrace.sim.checkers.answers import AnswersAreTrue, NothingUnasked
from headrace.sim.checkers.attempts import AttemptsFit, OnlyStartsAreCharged
from headrace.sim.checkers.base import Checker, Life, Violation
from headrace.sim.checkers.bounds import MemoryIsCounted, RecoveryIsBounded
from headrace.sim.checkers.checkups import CheckupsAreClean
from headrace.sim.checkers.consistency import (
    OneState,
    ReadersSeeTheLog,
    ViewsFitTheLedger,
)
from headrace.sim.checkers.due import LogTimeGrows, NeverAfterStartBy, NeverEarly
from headrace.sim.checkers.durable import (
    AnswersAreDurable,
    LogKeepsWhatItHad,
    NoAnswerFromThePast,
)
from headrace.sim.checkers.effects import CancelHolds, WaitsAreAnswered, WatchersAreTold
from headrace.sim.checkers.ends import (
    FirstAnswerAgain,
    OneEnd,
    OneWinner,
    ReportsAreConsistent,
)
from headrace.sim.checkers.enqueued import CallsAreWhole, NothingInvented, NothingLost
from headrace.sim.checkers.handlers import DoneIsDone
from headrace.sim.checkers.identity import OneJobAKey, OneJobAnId
from headrace.sim.checkers.lasting import LeasesLast
from headrace.sim.checkers.leases import HandedOutOnce, LeasesAreDisjoint
from headrace.sim.checkers.linearizable import Linearizable
from headrace.sim.checkers.liveness import (
    CalmCallsAreQuick,
    EveryCallEnds,
    EveryJobMovesOn,
    NoStuckLease,
)
from headrace.sim.checkers.order import ClaimsFit, FirstInFirstOut
from headrace.sim.checkers.owed import EffectsArrive
from headrace.sim.final import Final
from headrace.sim.history import History

_CLASSES: tuple[type[Checker], ...] = (
    LogKeepsWhatItHad,
    OneState,
    NothingLost,
    NothingInvented,
    CallsAreWhole,
    OneEnd,
    OneWinner,
    DoneIsDone,
    FirstAnswerAgain,
    ReportsAreConsistent,
    LeasesAreDisjoint,
    HandedOutOnce,
    LeasesLast,
    AttemptsFit,
    OnlyStartsAreCharged,
    FirstInFirstOut,
    ClaimsFit,
    NeverEarly,
    NeverAfterStartBy,
    LogTimeGrows,
    OneJobAnId,
    OneJobAKey,
    AnswersAreDurable,
    AnswersAreTrue,
    NoAnswerFromThePast,
    NothingUnasked,
    ReadersSeeTheLog,
    ViewsFitTheLedger,
    CancelHolds,
    WaitsAreAnswered,
    WatchersAreTold,
    EffectsArrive,
    EveryJobMovesOn,
    NoStuckLease,
    EveryCallEnds,
    CalmCallsAreQuick,
    MemoryIsCounted,
    RecoveryIsBounded,
    CheckupsAreClean,
    Linearizable,
)
ALL: dict[str, type[Checker]] = {checker.name(): checker for checker in _CLASSES}
"""By name, those first whose breach explains others."""

NOT_APPLICABLE: dict[str, str] = {
    "I9": "There are no limits of concurrency or rate yet.",
    "I10": "There are no recurring jobs yet.",
    "I12 (nodes)": "There is one node; its replay and its snapshots stand for the others.",
    "I13 (quorum)": "There is one node; durable means on its disk.",
    "I14 (memory)": "A simulated life has no resident set of its own; real processes are measured.",
}
"""Invariant, or part of one → why nothing checks it."""


class Judgement(msgspec.Struct):
    """What all checkers together say of one life."""

    violations: list[Violation] = []
    passed_over: list[str] = []
    """Checkers that need a log which this life does not have."""
    jobs: int = 0
    """Searched for an order that explains all answers…"""
    undecided: int = 0
    """… of which the search was given up: neither passed nor failed."""


def check_all(history: History, final: Final) -> Judgement:
    """Every breach that any checker finds, in the order of `ALL`."""
    life = Life(history, final)
    judgement = Judgement()
    for name, kind in ALL.items():
        checker = kind()
        if kind.needs_log and not life.ledger.whole:
            judgement.passed_over.append(name)
            continue
        judgement.violations += checker.judge(life)
        if isinstance(checker, Linearizable):
            judgement.jobs, judgement.undecided = checker.jobs, checker.undecided
    return judgement


__all__ = [
    "ALL",
    "NOT_APPLICABLE",
    "Checker",
    "Final",
    "Judgement",
    "Life",
    "Violation",
    "check_all",
]
