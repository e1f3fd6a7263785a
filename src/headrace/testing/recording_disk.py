"""`RecordingDisk`: a simulated disk that keeps every call which changed something, with data.

`CrashStates` takes these calls and says what a crash between two of them may leave.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from headrace.testing.crash_states import ROOT_NODE, Op, Tree, fill
from headrace.testing.sim_disk import SimDisk


class Step(msgspec.Struct, frozen=True):
    op: Op
    note: object
    """What `RecordingDisk.note` said just before the call."""


class RecordingDisk(SimDisk):
    """Begins with `tree`, durable. Not for use after its own `crash`, nor with its faults."""

    def __init__(self, tree: Tree | None = None) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.note: Callable[[], object] = lambda: None
        self._numbers = {"": ROOT_NODE}
        self._node_of_fd: dict[int, int] = {}
        self._next_node = 1
        self._silent = True
        fill(self, tree or {})
        self._silent = False
        for path in sorted(tree or {}):
            self._number(path)

    def _number(self, path: str) -> int:
        self._numbers[path] = self._next_node
        self._next_node += 1
        return self._numbers[path]

    def _place(self, path: str) -> tuple[int, str]:
        parent, _, name = path.rpartition("/")
        return self._numbers[parent], name

    def _keep(self, op: Op, note: object) -> None:
        self.steps.append(Step(op, note))

    # --- calls

    def open(self, path: str, *, create: bool = False, write: bool = False) -> int:
        note = self.note() if create else None
        fd = super().open(path, create=create, write=write)
        if create:
            place = self._place(path)
            self._keep(Op("open", path, self._number(path), added=place), note)
        self._node_of_fd[fd] = self._numbers["" if path == "/" else path]
        return fd

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        note = self.note()
        written = super().pwrite(fd, data, offset)
        self._keep(self._content("pwrite", fd, offset=offset, data=bytes(data)[:written]), note)
        return written

    def pwritev(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        note = self.note()
        written = super().pwritev(fd, buffers, offset)
        data = b"".join(buffers)[:written]
        self._keep(self._content("pwritev", fd, offset=offset, data=data), note)
        return written

    def preallocate(self, fd: int, length: int) -> None:
        note = self.note()
        super().preallocate(fd, length)
        self._keep(self._content("preallocate", fd, size_bytes=length), note)

    def truncate(self, fd: int, length: int) -> None:
        note = self.note()
        super().truncate(fd, length)
        self._keep(self._content("truncate", fd, size_bytes=length), note)

    def fdatasync(self, fd: int) -> None:
        note = self.note()
        super().fdatasync(fd)
        self._keep(self._content("fdatasync", fd), note)

    def _content(
        self, method: str, fd: int, *, offset: int = 0, data: bytes = b"", size_bytes: int = 0
    ) -> Op:
        node = self._node_of_fd[fd]
        path = self._handles[fd].path
        return Op(method, path, node, offset=offset, data=data, size_bytes=size_bytes)

    def rename(self, source: str, target: str) -> None:
        note = self.note()
        super().rename(source, target)
        node = self._numbers.pop(source)
        self._numbers[target] = node
        removed, added = self._place(source), self._place(target)
        self._keep(Op("rename", target, node, removed=removed, added=added), note)

    def unlink(self, path: str) -> None:
        note = self.note()
        super().unlink(path)
        node = self._numbers.pop(path)
        self._keep(Op("unlink", path, node, removed=self._place(path)), note)

    def mkdir(self, path: str) -> None:
        note = self.note()
        super().mkdir(path)
        if not self._silent:
            place = self._place(path)
            self._keep(Op("mkdir", path, self._number(path), is_dir=True, added=place), note)

    def fsync_dir(self, path: str) -> None:
        note = self.note()
        super().fsync_dir(path)
        self._keep(Op("fsync_dir", path, self._numbers["" if path == "/" else path]), note)

    def poke(self, path: str, content: bytes) -> None:
        super().poke(path, content)
        if not self._silent:
            added = None if path in self._numbers else self._place(path)
            node = self._number(path) if added else self._numbers[path]
            self._keep(Op("poke", path, node, added=added, data=content), self.note())
