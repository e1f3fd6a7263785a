"""Effects: what is to be done outside once the records that caused it are durable.

Effects are hints. Each is derivable from state again, so after recovery, or when a
session resumes, what is owed is sent again.
"""

from __future__ import annotations

import msgspec

from headrace.model.replies import PushedGroup


class PushJobs(msgspec.Struct, gc=False):
    """Deliver claimed jobs to the session's primary connection."""

    session_id: bytes
    groups: list[PushedGroup]


class PushCancel(msgspec.Struct, gc=False):
    """Tell the holder that these shall stop."""

    session_id: bytes
    leases: list[tuple[bytes, int]]


class JobEnded(msgspec.Struct, gc=False):
    """Wake whoever waits for this job."""

    job_id: bytes


class SessionEnded(msgspec.Struct, gc=False):
    """Its connections have nothing more to expect."""

    session_id: bytes


Effect = PushJobs | PushCancel | JobEnded | SessionEnded
