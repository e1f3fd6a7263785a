"""A handler's failure as text: what an operator reads, and nothing that could be run.

The traceback begins at the application's own frames and is cut in the middle, since both
its entry and the place of the fault matter.
"""

from __future__ import annotations

import os.path
import traceback
from types import TracebackType

from headrace.model.job import JobError
from headrace.model.limits import ERROR_MESSAGE_BYTES_MAX, TRACEBACK_BYTES_MAX

_OWN_FOLDER = os.path.dirname(__file__)
_GAP = "\n… cut …\n"


def job_error(error: BaseException) -> JobError:
    """Of what a handler raised; time, attempt and worker are the server's to add."""
    return JobError(
        type=type_name(error),
        message=cut_middle(_message(error), ERROR_MESSAGE_BYTES_MAX),
        traceback=cut_middle(_traceback_text(error), TRACEBACK_BYTES_MAX),
    )


def type_name(error: BaseException) -> str:
    kind = type(error)
    if kind.__module__ in ("builtins", "headrace.client.errors", "headrace.model.errors"):
        return kind.__name__
    return f"{kind.__module__}.{kind.__qualname__}"


def cut_middle(text: str, bytes_max: int) -> str:
    """At most `bytes_max` bytes of UTF-8, first and last half kept."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= bytes_max:
        return raw.decode()
    half = (bytes_max - len(_GAP.encode())) // 2
    return raw[:half].decode("utf-8", "ignore") + _GAP + raw[-half:].decode("utf-8", "ignore")


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failure:
        return f"<its text cannot be made: {type(failure).__name__}>"


def _traceback_text(error: BaseException) -> str:
    try:
        lines = traceback.format_exception(type(error), error, _users_part(error.__traceback__))
    except Exception as failure:
        return f"<its traceback cannot be made: {type(failure).__name__}>"
    return "".join(lines)


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    """From the first frame that is not ours; all of it when every frame is."""
    part = trace
    while part is not None and part.tb_frame.f_code.co_filename.startswith(_OWN_FOLDER):
        part = part.tb_next
    return part or trace
