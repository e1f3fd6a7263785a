"""The story of an application that owns its directory, and whose disk fails under it."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from tests.e2e.crash.cluster import Members
from tests.e2e.crash.draining import drained, wait_for_acks
from tests.e2e.crash.judging import judge
from tests.e2e.crash.kills import Tally
from tests.e2e.crash.member import Part
from tests.e2e.crash.syscalls import wrapper


def owner_whose_sync_fails(directory: Path, seed: int, when: int = 0) -> Tally:
    """It goes on as an application; its directory is recovered by whoever comes first.

    `when`: which sync; drawn when 0.
    """
    data, journal = directory / "data", directory / "journal"
    part = Part(target=str(data), journal=str(journal), seed=seed, producers=3)
    members = Members(part, directory)
    when = when or random.Random(seed).randint(12, 80)
    failing = wrapper(f"fdatasync:error=EIO:when={when}", directory / "calls")
    try:
        members.begin("owner", works=True, produces=True, wrapper=failing).wait_ready()
        members.begin("other", works=True, produces=True).wait_ready()
        members.children["owner"].wait_for_event("leader_failed")
        wait_for_acks(journal, 100)
        members.begin("last", works=True).wait_ready()
        members.terminate("owner")
        members.terminate("other")
        views = asyncio.run(drained(str(data), journal))
        members.terminate("last")
    finally:
        members.kill_all()
    tally = judge(journal, data, views)
    tally["points met"] += 1
    return tally
