"""Names of counts in words, in groups: what befell a part, for people.

A name that is not here is shown as it is, at the end: nothing that was counted is hidden by
being forgotten. Empty words do hide: another name says the same, or it is shown elsewhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

Groups = dict[str, dict[str, str]]

_ACTOR = re.compile(r"(?<= )\d+ ")
"""The number of a client or worker; it is the same to us which one it was."""
_MS_PER_HOUR = 3_600_000

_PROCESSES: Groups = {
    "killed": {
        "servers killed": "servers",
        "starts killed": "servers while they started",
        "owners killed": "owners of a shared directory",
        "members killed": "applications beside the owner",
        "workers killed": "workers",
        "copies killed": "backups and restores",
    },
    "power": {
        "power cuts": "cuts",
        "cuts that lost writes": "of them lost writes that were not synced",
    },
    "system calls that fail, or kill": {
        "points": "calls drawn for a server",
        "points met": "faults met, those of owners included",
    },
    "stood still": {
        "servers stood still": "servers",
        "owners stood still": "owners of a directory",
        "workers stood still": "workers",
        "disks stood still": "disks",
        "leases lost by standing still": "leases lost by it",
        "late acks refused": "late acks refused",
    },
    "asked to stop": {
        "servers asked to stop": "servers once",
        "servers asked twice": "servers twice",
        "workers asked to stop": "workers",
        "servers stopped": "servers between kills",
        "members stopped": "applications between kills",
    },
    "one owner": {
        "servers refused": "second servers refused",
        "applications that did not own": "applications that waited for their turn",
        "successions": "owners followed by another",
    },
    "copied": {"copies": "backups and restores that ended well"},
    "judged": {
        "enqueued": "acknowledged jobs",
        "handlers run": "handlers run",
        "operations": "calls and announcements",
        "jobs in one order": "jobs of which one order of calls explains all answers",
        "jobs undecided": "jobs of which that stayed open",
        "checkers without a whole log": "verdicts left out, since a log had been cut short",
    },
}

_SIMULATION: Groups = {
    "faults drawn": {
        "kill_server": "kills of the server",
        "stop_server": "stops of it in good order",
        "kill_worker": "kills of a worker",
        "kill_asker": "kills of a client",
        "power_cut": "power cuts",
        "pause_server": "pauses of the server",
        "pause_other": "pauses of a client or worker",
        "block_worker": "blocked loops of a worker",
        "reset_connections": "resets of connections",
        "silence_connections": "half-open connections",
        "part_machines": "partitions",
        "rough_weather": "spells of a bad network",
        "fail_disk_call": "failing calls of the disk",
        "shorten_write": "short writes",
        "fill_disk": "disks without room",
        "slow_disk": "slow disks",
        "rot_a_bit": "rotting bits",
        "wall_jump": "jumps of the wall clock",
        "suspend": "sleeps of the machine",
    },
    "what they did": {
        "server killed": "servers killed",
        "power cut": "",
        "worker killed": "workers killed",
        "client killed": "clients killed",
        "session killed": "bare sessions killed",
        "server paused": "servers paused",
        "worker paused": "workers paused",
        "client paused": "clients paused",
        "session paused": "bare sessions paused",
        "rot found": "starts stopped by rot, with its place",
        "server failed": "starts refused by a failing disk or clock",
    },
    "what servers reported": {
        "node_leads": "leads taken",
        "server_ready": "servers ready",
        "server_stopping": "stops begun",
        "server_stopped": "stops ended",
        "snapshot_published": "snapshots published",
        "snapshot_failed": "snapshots given up",
        "leader_failed": "leads given up with the disk",
        "log_refused": "commits refused",
        "log_stalled": "stalls of the log",
        "loop_paused": "pauses noticed",
        "wall_clock_jumped": "jumps noticed",
        "disk_full": "full disks noticed",
        "disk_has_room": "disks with room again",
        "silent_peer_disconnected": "silent peers given up",
    },
    "judged": {
        "faults over": "lives told to their end",
        "jobs linearized": "jobs of which one order of calls explains all answers",
        "jobs undecided": "jobs of which that stayed open",
        "simulated ms": "hours of simulated time",
    },
}

_EXPLORER: Groups = {
    "of these": {
        "exhaustive_prefixes": "prefixes in all their states",
        "deduplicated": "states like one that had been recovered",
        "crashes_in_recovery": "recoveries crashed as well",
    }
}

_WAL: Groups = {
    "cut anywhere, then started with all that was promised": {"cut": "lives"},
    "rotten, stopped with a code, mended as the message says": {
        "stopped E-WAL-CORRUPT, repaired": "E-WAL-CORRUPT",
        "stopped E-WAL-TAIL, repaired": "E-WAL-TAIL",
        "stopped E-WAL-GAP, repaired": "E-WAL-GAP",
        "stopped E-CURRENT, repaired": "E-CURRENT",
    },
    "rotten, stopped with a code, and only a backup helps": {
        "stopped E-WAL-CORRUPT, a backup is needed": "E-WAL-CORRUPT",
        "stopped E-WAL-GAP, a backup is needed": "E-WAL-GAP",
        "stopped E-SNAP-NONE, a backup is needed": "E-SNAP-NONE",
    },
    "rotten, and started": {
        "whole": "with all there was",
        "whole, a slot of the watermark gone": "with all, and one slot of WATERMARK",
        "whole, without a damaged snapshot": "with all, from another snapshot",
        "whole, and verify sees the damage": "with all, and `verify` names the damage",
        "tail lost within the lag": "without an end that no WATERMARK had named yet",
    },
}

_PARSERS: Groups = {
    "in the newest run": {
        "cases": "",
        "taken": "inputs taken",
        "refused": "inputs refused with a typed error",
        "allocations counted": "inputs of which the memory was measured",
        "inputs kept": "inputs that led the search on",
        "arcs reached": "arcs of the code",
    }
}

_N_LOOP: Groups = {
    "what the caller was told": {
        "passed": "that it was done",
        "stopped": "nothing, since process or machine stopped there",
        "Refused": "`Refused` (not written; may be asked again)",
        "Lost": "`Lost` (this log is over)",
        "DiskFailed": "`DiskFailed`",
        "SyncFailed": "`SyncFailed`",
        "UnsafeDirectory": "`UnsafeDirectory`",
        "LogCorrupt": "`LogCorrupt`",
        "OutcomeUnknown": "`OutcomeUnknown`",
        "Draining": "`Draining`",
        "Found": "a finding of `verify`",
    }
}

WORDS: dict[str, Groups] = {
    "processes": _PROCESSES,
    "simulation": _SIMULATION,
    "explorer": _EXPLORER,
    "wal": _WAL,
    "parsers": _PARSERS,
    "n-loop": _N_LOOP,
}


def in_words(part: str, counts: Mapping[str, int]) -> Iterator[str]:
    """`group: 1 of this; 2 of that`, for each group of the part that has any."""
    left: Counter[str] = Counter()
    for name, count in counts.items():
        left[_ACTOR.sub("", name)] += count
    for group, words in WORDS.get(part, {}).items():
        told = [(left.pop(name, 0), name, said) for name, said in words.items()]
        line = "; ".join(_counted(*one) for one in told if one[0] and one[2])
        if line:
            yield f"{group}: {line}"
    rest = [_counted(count, name, name) for name, count in sorted(left.items()) if count]
    if rest:
        yield f"also: {'; '.join(rest)}"


def _counted(count: int, name: str, said: str) -> str:
    if name.endswith(" ms"):
        count //= _MS_PER_HOUR
    return f"{count:,} {said.replace('_', ' ')}"
