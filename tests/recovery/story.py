"""A log on a simulated disk, and what it has promised so far."""

from __future__ import annotations

import random

from headrace.log.base import Commit, Epoch, Refused
from headrace.log.file.log import FileLog
from headrace.testing.sim_disk import SimDisk
from headrace.testing.sim_env import SimEnv

ROOT = "/data"
SEGMENT_BYTES = 16 * 1024
COMMIT_MS = 3
"""Time that passes with each commit: WATERMARK is written after some of them."""


class Story:
    """Drives one directory through appends, crashes and restarts, and checks its promises."""

    def __init__(self, seed: int = 0, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.rng = random.Random(seed)
        self.env = SimEnv(seed=seed)
        self.segment_bytes = segment_bytes
        self.records_max = 9
        """Of a commit."""
        self.acked: list[Commit] = []
        self.pending: Commit | None = None
        """Asked for, and never answered."""
        self.log = self.new_log()
        self.epoch = Epoch(0, b"")

    @property
    def disk(self) -> SimDisk:
        return self.env.disk

    def new_log(self) -> FileLog:
        return FileLog(self.env, ROOT, segment_bytes=self.segment_bytes)

    def start(self) -> Story:
        """Open, lead, recover, and check that nothing promised is missing."""
        self.log = self.new_log()
        self.log.open()
        self.epoch = self.log.lead("sim")
        self.check()
        return self

    def check(self) -> None:
        """What `recover` gives is what was acknowledged, and at most the pending commit more."""
        snapshot, commits = self.log.recover()
        index = snapshot.info.index if snapshot else 0
        if snapshot is not None:
            assert list(snapshot.blocks()) == blocks_of(index)
        recovered = list(commits)
        promised = [commit for commit in self.acked if commit.first_index > index]
        if self.pending is not None and recovered == [*promised, self.pending]:
            self.acked.append(self.pending)
        else:
            assert recovered == promised
        self.pending = None

    def next_commit(self, body: bytes | None = None) -> Commit:
        last = self.acked[-1] if self.acked else None
        first_index = last.first_index + last.record_count if last else 1
        if body is None:
            body = self._some_body()
        return Commit(
            self.rng.randbytes(16), first_index, self.rng.randint(1, self.records_max), 77, body
        )

    def _some_body(self) -> bytes:
        """Sometimes with a long run of zeros, or with bytes of the log itself."""
        body = self.rng.randbytes(self.rng.choice((0, 20, 300, 3000)))
        chance = self.rng.random()
        if chance < 0.05:
            return body + bytes(1500)
        if chance < 0.1:
            names = self.disk.listdir(f"{ROOT}/wal")
            return body + self.disk.peek(f"{ROOT}/wal/{self.rng.choice(names)}")[512:2512]
        return body

    def append(self, count: int = 1, body: bytes | None = None) -> Story:
        for _ in range(count):
            self.pending = self.next_commit(body)
            try:
                self.log.append(self.epoch, self.pending)
            except Refused:
                self.pending = None
                raise
            self.acked.append(self.pending)
            self.pending = None
            self.env.clock.advance_ms(COMMIT_MS)
        return self

    def snapshot(self) -> Story:
        index = self.last_index
        writer = self.log.begin_snapshot(self.epoch, index)
        for block in blocks_of(index):
            writer.write(block)
        writer.publish()
        return self

    def truncate(self) -> Story:
        self.log.truncate(self.epoch, self.last_index + 1)
        return self

    @property
    def last_index(self) -> int:
        return self.acked[-1].first_index + self.acked[-1].record_count - 1 if self.acked else 0

    def crash(self) -> Story:
        """The machine stops here, and starts again."""
        self.disk.crash(self.rng)
        self.disk.faults.clear()
        return self

    def kill(self) -> Story:
        """The process stops here; the machine does not."""
        self.disk.kill_process()
        return self

    def close(self) -> Story:
        self.log.close()
        return self

    # --- damage

    def segments(self) -> list[str]:
        """Paths, oldest first."""
        names = [name for name in self.disk.listdir(f"{ROOT}/wal") if name.endswith(".wal")]
        return [f"{ROOT}/wal/{name}" for name in names]

    def snapshot_files(self) -> list[str]:
        names = self.disk.listdir(f"{ROOT}/snapshots")
        return [f"{ROOT}/snapshots/{name}" for name in names]

    def flip(self, path: str, offset: int, bit: int = 0) -> Story:
        content = bytearray(self.disk.peek(path))
        content[offset] ^= 1 << bit
        self.disk.poke(path, bytes(content))
        return self

    def used_bytes(self, path: str) -> int:
        return len(self.disk.peek(path).rstrip(b"\0"))


def blocks_of(index: int) -> list[bytes]:
    """Blocks that a snapshot of `index` must give back."""
    return [b"%d:%d;" % (index, number) * 50 for number in range(3)]
