"""A push of any size as frames of a bounded size."""

from __future__ import annotations

import pytest

from headrace.codec.messages import encode_body
from headrace.model.limits import FRAME_BYTES_MAX, JOB_LOG_LINE_BYTES_MAX, JOB_LOG_LINES_MAX
from headrace.model.pushes import DrainPushed, FinishedPushed, JobsPushed
from headrace.model.replies import JobView, PushedGroup, PushedJob
from headrace.protocol.pushes import split_push


def group(token: int, *sizes: int) -> PushedGroup:
    jobs = [
        PushedJob(bytes([token, number]) * 8, 1, bytes(size)) for number, size in enumerate(sizes)
    ]
    return PushedGroup(token, "q", "k", "application/json", 0, 8, jobs)


@pytest.mark.parametrize(
    ("groups", "jobs_per_part"),
    [
        ([group(1, 10, 10)], [2]),
        ([group(1, 60, 50)], [1, 1]),
        ([group(1, 500, 1, 1, 500)], [1, 2, 1]),
        ([group(1, 60), group(2, 60)], [1, 1]),
        ([group(1)], [0]),
    ],
    ids=["fits", "two", "giants", "groups", "empty"],
)
def test_jobs_are_split_between_jobs(groups: list[PushedGroup], jobs_per_part: list[int]) -> None:
    push = JobsPushed(groups)
    parts = [part for part in split_push(push, 100) if isinstance(part, JobsPushed)]
    found = [(each.token, job) for part in parts for each in part.groups for job in each.jobs]

    assert [sum(len(each.jobs) for each in part.groups) for part in parts] == jobs_per_part
    assert found == [(each.token, job) for each in groups for job in each.jobs]


def test_finished_jobs_are_split_between_jobs() -> None:
    views = [
        JobView(bytes([n]) * 16, "q", "k", 5, 100, 1, 8, 0, result=bytes(60)) for n in range(3)
    ]
    parts = list(split_push(FinishedPushed(views), 100))

    assert [part.jobs for part in parts if isinstance(part, FinishedPushed)] == [[v] for v in views]


def test_finished_jobs_with_long_logs_fit_frames() -> None:
    lines = ["x" * JOB_LOG_LINE_BYTES_MAX] * JOB_LOG_LINES_MAX
    views = [
        JobView(bytes([n]) * 16, "q", "k", 5, 100, 1, 8, 0, log_lines=lines) for n in range(50)
    ]
    parts = [part for part in split_push(FinishedPushed(views)) if isinstance(part, FinishedPushed)]

    assert [view for part in parts for view in part.jobs] == views
    assert 1 < len(parts) < len(views)
    assert max(len(encode_body(part)) for part in parts) < FRAME_BYTES_MAX


def test_other_pushes_stay_whole() -> None:
    push = DrainPushed(1)

    assert list(split_push(push, 0)) == [push]
