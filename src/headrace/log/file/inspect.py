"""What an operator does with a directory, apart from serving it: the face of four modules.

Every function takes an `Env` (or the parts of it that a log takes) and an absolute path.
`survey`, `verify` and `copy_consistent` work on a live directory; the repairs lock it.
"""

from headrace.log.file.backup import CopyReport, copy_consistent, restore
from headrace.log.file.repair import Truncation, rebuild_current, truncate_at
from headrace.log.file.survey import SegmentRow, SnapshotRow, Survey, survey
from headrace.log.file.verify import Finding, Severity, verify

__all__ = [
    "CopyReport",
    "Finding",
    "SegmentRow",
    "Severity",
    "SnapshotRow",
    "Survey",
    "Truncation",
    "copy_consistent",
    "rebuild_current",
    "restore",
    "survey",
    "truncate_at",
    "verify",
]
