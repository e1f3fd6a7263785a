"""What `headrace verify` says of a directory: after some of the crashes, and at the end."""

from __future__ import annotations

from collections import Counter

from headrace.sim.checkers.base import Breaches, Checker, Life


class CheckupsAreClean(Checker):
    """A crash leaves nothing to repair; where a fault damaged the directory, it is named."""

    invariants = ("I15",)
    clauses = (1,)
    promise = (
        "verify finds nothing wrong after a crash, and just the bit that has rotted, at its place."
    )
    needs_log = False

    def breaches(self, life: Life) -> Breaches:
        for checkup in life.final.checkups:
            said, owed = Counter(checkup.complaints), Counter(checkup.expected)
            for complaint in said - owed:
                yield self.violation(f"{checkup.what}: {complaint}", at_ns=checkup.at_ns)
            for missing in owed - said:
                message = f"{checkup.what} did not notice: {missing}"
                yield self.violation(message, at_ns=checkup.at_ns)
