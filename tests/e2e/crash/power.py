"""Power cuts for real processes: what no sync made durable is lost, in any subset.

A killed process leaves its writes in the page cache, so a kill alone never loses any. Here a
library before libc notes every change that the server makes to its files; at a cut the notes
are played to a `SimDisk`, which crashes, and the directory is written anew with what survived:
un-synced sectors torn and out of order, un-synced names there or not.

Must never be used on a directory that anybody else writes to.
"""

from __future__ import annotations

import random
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

from headrace.testing.sim_disk import SimDisk
from tests.e2e.crash.rights import built_preload

_HEAD = struct.Struct("<IiqQ")
Note = tuple[str, int, int, bytes]


class Machine:
    """Files below `root`, and a medium that remembers which of them are durable."""

    def __init__(self, root: Path, *, forgets: str = "") -> None:
        """`forgets`: `fsync` or `fdatasync`, which this machine does not do."""
        root.mkdir(exist_ok=True)
        self.root = root
        self.cut_count = 0
        self.lossy_cut_count = 0
        """Cuts after which something that had been written was gone."""
        self._trace = root.parent / f"{root.name}.trace"
        self._disk = SimDisk()
        self._open: dict[int, tuple[str, int]] = {}
        """Real descriptor → (path, the medium's; -1 for a directory)."""
        self.environ = {
            "LD_PRELOAD": str(built_preload("recorder")),
            "TRACE_ROOT": str(root),
            "TRACE_FILE": str(self._trace),
            "TRACE_FORGETS": forgets,
        }

    def cut(self, draw: random.Random) -> None:
        """The power was off. Needs: every process that wrote here is dead."""
        self._play()
        before = self._tree()
        self._disk.crash(draw)
        self._open.clear()
        after = self._tree()
        self.cut_count += 1
        self.lossy_cut_count += before != after
        for path in self.root.iterdir():
            shutil.rmtree(path)
        for name, content in sorted(after.items()):
            _write(self.root / name.lstrip("/"), content)

    def unseen(self) -> list[str]:
        """Names of files that are not what the notes say: what the recorder has missed."""
        self._play()
        noted, real = self._tree(), dict(_files_below(self.root))
        return [name for name in sorted(noted | real) if noted.get(name) != real.get(name)]

    # --- inside

    def _play(self) -> None:
        if self._trace.exists():
            for note in _whole_notes(self._trace.read_bytes()):
                self._play_one(*note)
            self._trace.unlink()
            self._disk.trace.clear()

    def _play_one(self, op: str, fd: int, at: int, payload: bytes) -> None:
        disk = self._disk
        if op in "dowc":
            path = payload.decode()
            writes = op in "wc"
            handle = -1 if op == "d" else disk.open(path, create=op == "c", write=writes)
            self._open[fd] = path, handle
        elif op == "m":
            disk.mkdir(payload.decode())
        elif op == "u":
            if disk.stat(payload.decode()) is not None:  # else a socket
                disk.unlink(payload.decode())
        elif op == "r":
            disk.rename(payload[:at].decode(), payload[at:].decode())
        else:
            self._play_on_open(op, at, payload, *self._open[fd])
            if op == "x":
                del self._open[fd]

    def _play_on_open(self, op: str, at: int, payload: bytes, path: str, handle: int) -> None:
        disk = self._disk
        if op == "p":
            disk.pwrite(handle, payload, at)
        elif op == "t":
            disk.truncate(handle, at)
        elif op == "a":
            disk.preallocate(handle, at)
        elif op == "s" and handle < 0:
            disk.fsync_dir(path)
        elif op == "s":
            disk.fdatasync(handle)
        elif handle >= 0:
            disk.close(handle)

    def _tree(self) -> dict[str, bytes | None]:
        """Path → content as a reader sees it, None for a directory."""
        return dict(self._walk(""))

    def _walk(self, directory: str) -> Iterator[tuple[str, bytes | None]]:
        for name in self._disk.listdir(directory):
            path = f"{directory}/{name}"
            found = self._disk.stat(path)
            assert found is not None
            if found.is_dir:
                yield path, None
                yield from self._walk(path)
            else:
                yield path, self._disk.peek(path)


def _whole_notes(trace: bytes) -> Iterator[Note]:
    """The last one may have been cut off by the kill: it tells of nothing anybody relied on."""
    offset = 0
    while offset + _HEAD.size <= len(trace):
        op, fd, at, size_bytes = _HEAD.unpack_from(trace, offset)
        offset += _HEAD.size
        if offset + size_bytes > len(trace):
            return
        yield chr(op), fd, at, trace[offset : offset + size_bytes]
        offset += size_bytes


def _files_below(root: Path) -> Iterator[tuple[str, bytes | None]]:
    for path in root.rglob("*"):
        if path.is_dir():
            yield f"/{path.relative_to(root)}", None
        elif path.is_file():  # a socket has no content
            yield f"/{path.relative_to(root)}", path.read_bytes()


def _write(path: Path, content: bytes | None) -> None:
    if content is None:
        path.mkdir(mode=0o700)
    else:
        path.write_bytes(content)
        path.chmod(0o600)
