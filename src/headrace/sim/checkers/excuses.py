"""When a checker must not complain: each excuse in one place, with the bug that it might hide.

An excuse is as narrow as the history allows. Where a history does not tell what an excuse
rests on (of real processes nobody knows when they connected), it is granted.
"""

from __future__ import annotations

from bisect import bisect_right

from headrace.sim.checkers.base import Life
from headrace.sim.history import NEVER, Call


def may_have_left_twice(life: Life, call: Call) -> bool:
    """Its caller was connected anew between call and return: the answer is that of a repeat,
    which may have met the effect of the first try.

    May hide: a refusal of what was done, when its caller lost its connection meanwhile.
    """
    begun_ns = life.connected_ns.get(call.actor)
    if begun_ns is None or call.returned_ns == NEVER:
        return True
    return bisect_right(begun_ns, call.called_ns) < bisect_right(begun_ns, call.returned_ns)
