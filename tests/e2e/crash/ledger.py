"""What the log itself says of every lease, and how it ended.

Reads a directory whose log reaches back to its first record; changes nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from headrace.cli.replay import read_only, records_of
from headrace.model import records
from headrace.model.ids import id_to_text
from headrace.runtime.env import real_env

Lease = tuple[str, int]


class Ledger:
    """All leases of a log."""

    def __init__(self, directory: Path) -> None:
        self.enqueued: Counter[str] = Counter()
        self.claimed: defaultdict[str, list[int]] = defaultdict(list)
        self.marked: set[Lease] = set()
        """Leases whose start reached the log."""
        self.charged: Counter[Lease] = Counter()
        self.uncharged: Counter[Lease] = Counter()
        self.expired: dict[Lease, str] = {}
        """Leases that the system ended, and why."""
        self.epochs = 0
        self.went_back: list[int] = []
        """Indexes of commits that are older than the one before."""
        with read_only(real_env(), str(directory)) as (log, info):
            assert info.first_index == 1, "this log begins later"
            newest_ms = 0
            for commit in log.tail(1):
                if commit.now_ms < newest_ms:
                    self.went_back.append(commit.first_index)
                newest_ms = commit.now_ms
                for index, record in records_of(commit):
                    self._note(index, record)

    def ends(self, lease: Lease) -> int:
        return self.charged[lease] + self.uncharged[lease]

    def lost(self) -> list[Lease]:
        """Those that ended because nothing was heard of their worker."""
        return [lease for lease, reason in self.expired.items() if reason == "worker_lost"]

    def attempts(self) -> Counter[str]:
        """Charged attempts by job."""
        found: Counter[str] = Counter()
        for (job_id, _), count in self.charged.items():
            found[job_id] += count
        return found

    def _note(self, index: int, record: records.Record) -> None:
        match record:
            case records.EpochStarted():
                self.epochs += 1
            case records.JobsEnqueued():
                self.enqueued.update(id_to_text(job.job_id) for job in record.jobs)
            case records.JobsClaimed():
                for job_id in record.job_ids:
                    self.claimed[id_to_text(job_id)].append(index)
            case records.JobsStarted():
                self.marked |= {(id_to_text(job_id), token) for job_id, token in record.leases}
            case records.JobsSucceeded():
                for job_id, token, _ in record.results:
                    self.charged[id_to_text(job_id), token] += 1
            case records.JobFailed():
                self.charged[id_to_text(record.job_id), record.token] += 1
            case records.LeasesExpired():
                for lease in record.leases:
                    ends = self.charged if lease.started else self.uncharged
                    ends[id_to_text(lease.job_id), lease.token] += 1
                    self.expired[id_to_text(lease.job_id), lease.token] = record.reason
            case records.JobsReleased():
                for job in record.jobs:
                    self.uncharged[id_to_text(job.job_id), job.token] += 1
            case records.JobsCancelled():
                for job_id, token in record.leases:
                    if token:
                        self.uncharged[id_to_text(job_id), token] += 1
