"""Small workloads of the file log alone: what is prepared, what is done under a fault."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from headrace.log.base import Commit
from headrace.log.file.backup import copy_consistent, restore
from headrace.log.file.inspect import Survey, survey
from headrace.log.file.log import FileLog
from headrace.log.file.repair import rebuild_current, truncate_at
from headrace.log.file.verify import Finding, Severity, verify
from headrace.model.errors import HeadraceError, StopError
from headrace.testing.sim_disk import Fault, SimCrash
from tests.recovery.story import ROOT, Story, blocks_of

SEGMENT_BYTES = 8 * 1024
BODY = b"three of these fill a segment" * 80
DOOMED = b"to be cut"
COPY, RESTORED = "/copy", "/restored"


class Broken(Exception):
    """Something that must hold after a fault does not."""


def require(fine: bool, what: str) -> None:
    if not fine:
        raise Broken(what)


class Tale(Story):
    """A story that also knows which snapshots it was told are published."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed, segment_bytes=SEGMENT_BYTES)
        self.published = 0

    def snapshot(self) -> Tale:
        index = self.last_index
        writer = self.log.begin_snapshot(self.epoch, index)
        for block in blocks_of(index):
            writer.write(block)
        writer.publish()
        self.published = index
        return self

    def check(self) -> None:
        super().check()
        found = self.log.snapshots()
        newest = found[-1].index if found else 0
        require(newest >= self.published, f"snapshot {self.published} was published and is gone")

    def start_again(self) -> Tale:
        """After a refusal: a log that was opened leads now, another one begins anew."""
        if not self.disk.open_count:
            self.start()
            return self
        self.epoch = self.log.lead("again")
        self.check()
        return self

    def die(self) -> Tale:
        """The process is gone; all that it wrote is on the medium."""
        self.kill()
        self.disk.sync_all()
        self.log = self.new_log()
        return self


Act = Callable[[Tale], object]


def nothing(tale: Tale) -> None:
    """Nothing else is asked of it."""


class Workload(msgspec.Struct, frozen=True):
    name: str
    prepare: Callable[[], Tale]
    act: Act
    again: Act
    """When the act was refused, and there is room again."""
    mend: Act = nothing
    """Before the next start: what was to be repaired."""
    after: Act = nothing
    """When all is well again."""
    leads: bool = False
    """The log leads meanwhile: unless it is lost, it takes commits afterwards."""


def fresh() -> Tale:
    return Tale()


def begun() -> Tale:
    tale = Tale(1)
    tale.start()
    tale.append(3, BODY)
    return tale


def with_snapshots() -> Tale:
    """Two of them, and segments that nobody needs any more."""
    tale = Tale(2)
    tale.start()
    for _ in range(2):
        tale.append(6, BODY)
        tale.snapshot()
    tale.append(2, BODY)
    return tale


def closed() -> Tale:
    tale = begun()
    tale.close()
    return tale


def torn() -> Tale:
    """Stopped inside a commit, with a snapshot half written and the next segment reserved."""
    tale = with_snapshots()
    tale.log.idle()
    tale.log.begin_snapshot(tale.epoch, tale.last_index).write(b"half")
    tale.disk.faults = {tale.disk.calls + 1: Fault(crash="after")}
    try:
        tale.append(1, BODY)
    except SimCrash:
        tale.kill()
    tale.disk.faults.clear()
    tale.log = tale.new_log()
    return tale


def damaged() -> Tale:
    """A commit in the middle has rotted: the log does not start."""
    tale = Tale(3)
    tale.start()
    tale.append(2, BODY)
    for _ in range(3):
        tale.append(1, DOOMED)
    tale.die()
    path = tale.segments()[-1]
    tale.flip(path, tale.disk.peek(path).index(DOOMED))
    tale.acked = [commit for commit in tale.acked if commit.body != DOOMED]
    return tale


def without_current() -> Tale:
    tale = with_snapshots()
    tale.die()
    tale.disk.poke(f"{ROOT}/meta/CURRENT", b"rot")
    return tale


# --- acts


def rotate(tale: Tale) -> None:
    tale.append(2, BODY)


def idle(tale: Tale) -> None:
    tale.env.clock.advance_ms(1_500)
    tale.log.idle()
    tale.append()


def close_and_open(tale: Tale) -> None:
    tale.close()
    tale.start()


def back_up(tale: Tale) -> None:
    copy_consistent(tale.env, ROOT, COPY)
    check_copy(tale, COPY)


def back_up_again(tale: Tale) -> None:
    """Whatever became of the first try, another place takes the copy."""
    place = unused(tale)
    copy_consistent(tale.env, ROOT, place)
    check_copy(tale, place)


def unused(tale: Tale) -> str:
    taken = tale.disk.listdir("/")
    return next(f"/again-{number}" for number in range(9) if f"again-{number}" not in taken)


def backed_up() -> Tale:
    tale = with_snapshots()
    copy_consistent(tale.env, ROOT, COPY)
    return tale


def restore_it(tale: Tale) -> None:
    restore(tale.env, COPY, RESTORED)
    check_copy(tale, RESTORED)


def restore_again(tale: Tale) -> None:
    restore(tale.env, COPY, unused(tale))


def check_copy(tale: Tale, root: str) -> None:
    log = FileLog(tale.env, root, segment_bytes=SEGMENT_BYTES)
    log.open(read_only=True)
    snapshot, commits = log.recover()
    index = snapshot.info.index if snapshot else 0
    require(list(commits) == after_index(tale, index), f"the copy {root} holds something else")
    log.close()


def after_index(tale: Tale, index: int) -> list[Commit]:
    return [commit for commit in tale.acked if commit.first_index > index]


def cut(tale: Tale) -> None:
    """Where a start says that the damage is. Harmless when it was cut already."""
    log = tale.new_log()
    try:
        log.open()
    except StopError as error:
        if "offset" not in error.details:
            raise
        path, offset = str(error.details["path"]), int(error.details["offset"])
        truncate_at(tale.env, ROOT, path.rpartition("/")[2], offset)
    else:
        log.close()


def rebuild(tale: Tale) -> None:
    rebuild_current(tale.env, ROOT)


def verify_it(tale: Tale) -> None:
    findings = list(verify(tale.env, ROOT))
    require(bool(findings), "verify always says what it read")
    if any(finding.severity is Severity.ERROR for finding in findings):
        raise Found(findings)


class Found(HeadraceError):
    """`verify` reported what it met as a finding, which is as good as an error."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__(str(findings))


def survey_it(tale: Tale) -> None:
    facts: Survey = survey(tale.env, ROOT)
    require(bool(facts.problem) or facts.last_index == tale.last_index, "the survey is wrong")


def probe(tale: Tale) -> None:
    tale.log.probe()


WORKLOADS = (
    Workload("create", fresh, Tale.start, Tale.start_again),
    Workload("append", begun, Tale.append, Tale.append, leads=True),
    Workload("rotate", begun, rotate, rotate, leads=True),
    Workload("idle", begun, idle, idle, leads=True),
    Workload("snapshot", with_snapshots, Tale.snapshot, Tale.snapshot, leads=True),
    Workload("truncate", with_snapshots, Tale.truncate, Tale.truncate, leads=True),
    Workload("close and open", begun, close_and_open, Tale.start_again),
    Workload("open", closed, Tale.start, Tale.start_again),
    Workload("recover after a crash", torn, Tale.start, Tale.start_again),
    Workload("backup", with_snapshots, back_up, back_up_again, after=back_up_again, leads=True),
    Workload("restore", backed_up, restore_it, restore_again, after=restore_again),
    Workload("repair --truncate-at", damaged, cut, cut, mend=cut),
    Workload("repair --rebuild-current", without_current, rebuild, rebuild, mend=rebuild),
    Workload("verify", closed, verify_it, verify_it),
    Workload("survey", closed, survey_it, survey_it),
    Workload("probe", begun, probe, probe, leads=True),
)
