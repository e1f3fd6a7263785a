"""A push that would be too large for one frame, as several.

Splitting loses nothing: each part says whole jobs with their own token.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from headrace.codec.messages import encode_body
from headrace.model.limits import PUSH_BYTES
from headrace.model.pushes import FinishedPushed, JobsPushed, Push
from headrace.model.replies import JobView, PushedGroup, PushedJob


def split_push(push: Push, bytes_max: int = PUSH_BYTES) -> Iterator[Push]:
    """`push`, in parts of at most about `bytes_max`; a part has at least one job."""
    if type(push) is JobsPushed:
        yield from _split_jobs(push, bytes_max)
    elif type(push) is FinishedPushed:
        yield from _split_finished(push, bytes_max)
    else:
        yield push


def _split_jobs(push: JobsPushed, bytes_max: int) -> Iterator[Push]:
    if sum(len(job.payload) for group in push.groups for job in group.jobs) <= bytes_max:
        yield push
        return
    for group in push.groups:
        part: list[PushedJob] = []
        room = bytes_max
        for job in group.jobs:
            if part and len(job.payload) > room:
                yield JobsPushed([_with_jobs(group, part)])
                part, room = [], bytes_max
            part.append(job)
            room -= len(job.payload)
        if part:
            yield JobsPushed([_with_jobs(group, part)])


def _with_jobs(group: PushedGroup, jobs: list[PushedJob]) -> PushedGroup:
    return msgspec.structs.replace(group, jobs=jobs)


def _split_finished(push: FinishedPushed, bytes_max: int) -> Iterator[Push]:
    if len(push.jobs) == 1:
        yield push
        return
    part: list[JobView] = []
    room = bytes_max
    for job in push.jobs:
        size = len(encode_body(job))  # errors and log lines may be larger than the result
        if part and size > room:
            yield FinishedPushed(part)
            part, room = [], bytes_max
        part.append(job)
        room -= size
    if part:
        yield FinishedPushed(part)
