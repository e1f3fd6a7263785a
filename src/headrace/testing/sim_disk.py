"""`SimDisk`: files and directories in memory that can lose, tear, refuse and fill up.

Keeps two states of everything: what a reader sees (the page cache) and what a crash
leaves (the medium). Content moves to the medium with `fdatasync`, a directory's names
with `fsync_dir`; until then a crash keeps any part of it:

- of un-synced writes any subset, or a prefix, of the 512-byte sectors they touch, some of
  them cut inside; un-synced changes of size happened or did not;
- of un-synced names (created, renamed, removed) any subset, or a prefix.

A sync that fails drops what it was to write, and the cache forgets it too once asked to
(`drop_cache`): what Linux does, and why nobody may sync twice.

Not modelled: rot (tests change bytes with `poke`), time, and file systems that keep no
promise at all.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NoReturn

import msgspec

from headrace.model.env import FileStat

SECTOR_BYTES = 512
CUT_PROBABILITY = 0.1
"""That a sector which survives does so only up to some byte inside it."""


class SimCrash(BaseException):
    """The machine stopped inside a call. No `Exception`: nobody may handle it."""


class Fault(msgspec.Struct, frozen=True):
    """What happens instead of a call, or with it."""

    error_number: int = 0
    """Raise this; a failing sync loses what it was to write."""
    lands: bool = False
    """A failing sync has written all of it none the less."""
    written_bytes: int = 0
    """Without an error: a write stops after so many bytes."""
    crash: str = ""
    """`before` or `after`: the machine stops, before or after the call took effect."""


class _Write(msgspec.Struct, frozen=True):
    offset: int
    data: bytes


class _Resize(msgspec.Struct, frozen=True):
    size_bytes: int


class _Inode:
    """One file or directory: what is seen, and what the medium has."""

    def __init__(self, *, is_dir: bool, mode: int, owner_uid: int) -> None:
        self.is_dir = is_dir
        self.mode = mode
        self.owner_uid = owner_uid
        self.content = bytearray()
        self.medium = bytearray()
        self.pending: list[_Write | _Resize] = []
        self.allocated_bytes = 0
        self.names: dict[str, _Inode] = {}
        self.medium_names: dict[str, _Inode] = {}
        self.pending_names: list[tuple[str, _Inode | None]] = []
        """Name given to an inode, or taken away."""
        self.pending_groups: list[int] = []
        """For each of them the call that did it: both halves of a rename happen, or neither."""
        self.locked_by: int | None = None

    def settle(self) -> None:
        """Nothing is pending: the medium is what is seen."""
        self.medium[:] = self.content
        self.pending.clear()
        self.medium_names = dict(self.names)
        self.pending_names.clear()
        self.pending_groups.clear()


class _Handle(msgspec.Struct):
    inode: _Inode
    path: str
    write: bool


class SimDisk:
    """A `Disk`. `faults` maps the number of a call (from 1, see `calls`) to what befalls it."""

    def __init__(self, *, owner_uid: int = 1000, capacity_bytes: int = 1 << 40) -> None:
        self.calls = 0
        self.trace: list[tuple[str, str]] = []
        """(method, path) of every call since it was last cleared."""
        self.faults: dict[int, Fault] = {}
        self.capacity_bytes = capacity_bytes
        self.filesystem_type = "ext4"
        self.befall: Callable[[str, str], Fault | None] = _nothing
        """Asked at each call (method, path) for which `faults` plans nothing."""
        self.shorten_to_bytes = 0
        """The next write that is longer stops after so many bytes, once; 0: it does not."""
        self.on_stop: Callable[[], None] = _ignore
        """Called when a planned fault stops the machine."""
        self.dead = False
        """The machine stopped; only `crash` brings it back."""
        self._owner_uid = owner_uid
        self._root = _Inode(is_dir=True, mode=0o700, owner_uid=owner_uid)
        self._handles: dict[int, _Handle] = {}
        self._next_fd = 3

    # --- faults

    def _call(self, method: str, path: str) -> Fault | None:
        """Counts the call and lets the fault planned for it happen."""
        if self.dead:
            raise SimCrash
        self.calls += 1
        self.trace.append((method, path))
        fault = self.faults.get(self.calls) or self.befall(method, path)
        if fault is None:
            return None
        if fault.crash == "before":
            self._stop()
        if fault.error_number:
            if method == "fdatasync":
                self._end_pending(path, lands=fault.lands)
            raise OSError(fault.error_number, os.strerror(fault.error_number), path)
        return fault

    def _after(self, fault: Fault | None) -> None:
        if fault is not None and fault.crash == "after":
            self._stop()

    def _stop(self) -> NoReturn:
        self.dead = True
        self.on_stop()
        raise SimCrash

    def _end_pending(self, path: str, *, lands: bool) -> None:
        for handle in self._handles.values():
            if handle.path == path:
                for change in handle.inode.pending if lands else ():
                    _apply(handle.inode.medium, change)
                handle.inode.pending.clear()

    def kill_process(self) -> None:
        """Every descriptor and lock is gone; the machine, and its cache, live on."""
        self._handles.clear()
        for inode in self._inodes():
            inode.locked_by = None
        self.dead = False

    def forget(self, fds: Iterable[int]) -> None:
        """The process that had them is gone: descriptors and their locks are free."""
        for fd in fds:
            handle = self._handles.pop(fd, None)
            if handle is not None and handle.inode.locked_by == fd:
                handle.inode.locked_by = None

    def crash(self, rng: random.Random) -> None:
        """The machine started again, with what `rng` lets survive."""
        self._keep_some_names(self._root, rng)
        for inode in self._inodes():
            self._keep_some_content(inode, rng)
        self.kill_process()

    def _keep_some_names(self, directory: _Inode, rng: random.Random) -> None:
        groups = sorted(set(directory.pending_groups))
        kept = _some(groups, rng)
        pending = zip(directory.pending_groups, directory.pending_names, strict=True)
        for group, (name, inode) in pending:
            if group in kept:
                _name(directory.medium_names, name, inode)
        directory.names = dict(directory.medium_names)
        directory.pending_names.clear()
        directory.pending_groups.clear()
        for inode in directory.names.values():
            if inode.is_dir:
                self._keep_some_names(inode, rng)

    def _keep_some_content(self, inode: _Inode, rng: random.Random) -> None:
        pieces: list[_Write | _Resize] = []
        for change in inode.pending:
            if isinstance(change, _Write):
                pieces.extend(_Write(*piece) for piece in sectors(change.offset, change.data))
            else:
                pieces.append(change)
        kept = _some(range(len(pieces)), rng)
        for at in sorted(kept):
            piece = pieces[at]
            if isinstance(piece, _Write) and rng.random() < CUT_PROBABILITY:
                piece = _Write(piece.offset, piece.data[: rng.randint(0, len(piece.data))])
            _apply(inode.medium, piece)
        inode.pending.clear()
        inode.content[:] = inode.medium

    def _inodes(self) -> Iterator[_Inode]:
        waiting = [self._root]
        while waiting:
            inode = waiting.pop()
            yield inode
            waiting.extend(inode.names.values())

    # --- what tests do behind the back of the log

    @property
    def open_count(self) -> int:
        """Descriptors that nobody has closed."""
        return len(self._handles)

    def peek(self, path: str) -> bytes:
        """Content as a reader sees it."""
        return bytes(self._find(path).content)

    def peek_names(self, path: str) -> list[str]:
        """What a directory holds, sorted; nothing when there is none. No call of the trace."""
        try:
            return sorted(self._find(path).names)
        except FileNotFoundError:
            return []

    @property
    def room_bytes(self) -> int:
        """What may still be written. No call of the trace."""
        return self._free_bytes()

    def poke(self, path: str, content: bytes) -> None:
        """The file, made if need be, has this content, on the medium too."""
        parent, name = self._parent(path)
        if name not in parent.names:
            inode = _Inode(is_dir=False, mode=0o600, owner_uid=self._owner_uid)
            parent.names[name] = parent.medium_names[name] = inode
        inode = parent.names[name]
        inode.content[:] = content
        inode.allocated_bytes = len(content)
        inode.settle()

    def remove(self, path: str) -> None:
        """The name is gone, on the medium too."""
        parent, name = self._parent(path)
        parent.names.pop(name, None)
        parent.medium_names.pop(name, None)

    def set_owner(self, path: str, *, mode: int, owner_uid: int) -> None:
        inode = self._find(path)
        inode.mode, inode.owner_uid = mode, owner_uid

    def copy_tree(self, source: str, target: str) -> None:
        """As `cp -r` does, from what a reader sees at this moment; durable."""
        parent, name = self._parent(target)
        parent.names[name] = parent.medium_names[name] = _copied(self._find(source))

    def sync_all(self) -> None:
        """Everything is on the medium."""
        for inode in self._inodes():
            inode.settle()

    # --- Disk: descriptors

    def open(self, path: str, *, create: bool = False, write: bool = False) -> int:
        fault = self._call("open", path)
        parent, name = self._parent(path)
        inode = parent.names.get(name)
        if create:
            if inode is not None:
                raise _error(errno.EEXIST, path)
            inode = _Inode(is_dir=False, mode=0o600, owner_uid=self._owner_uid)
            self._rename_in(parent, (name, inode))
        if inode is None:
            raise _error(errno.ENOENT, path)
        if inode.is_dir and write:
            raise _error(errno.EISDIR, path)
        fd = self._next_fd
        self._next_fd += 1
        self._handles[fd] = _Handle(inode, path, write)
        self._after(fault)
        return fd

    def close(self, fd: int) -> None:
        handle = self._handle(fd)
        if handle.inode.locked_by == fd:
            handle.inode.locked_by = None
        del self._handles[fd]  # on Linux also when close fails
        self._call("close", handle.path)

    def _handle(self, fd: int) -> _Handle:
        if self.dead:
            raise SimCrash
        if fd not in self._handles:
            raise _error(errno.EBADF, f"descriptor {fd}")
        return self._handles[fd]

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        handle = self._handle(fd)
        self._call("pread", handle.path)
        if offset < 0:
            raise _error(errno.EINVAL, handle.path)
        return bytes(handle.inode.content[offset : offset + length])

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        return self._write("pwrite", fd, bytes(data), offset)

    def pwritev(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        return self._write("pwritev", fd, b"".join(buffers), offset)

    def _write(self, method: str, fd: int, data: bytes, offset: int) -> int:
        handle = self._handle(fd)
        fault = self._call(method, handle.path)
        if not handle.write:
            raise _error(errno.EBADF, handle.path)
        if fault is not None and fault.written_bytes:
            data = data[: fault.written_bytes]
        if 0 < self.shorten_to_bytes < len(data):
            data, self.shorten_to_bytes = data[: self.shorten_to_bytes], 0
        self._allocate(handle, offset + len(data))
        change = _Write(offset, data)
        _apply(handle.inode.content, change)
        handle.inode.pending.append(change)
        self._after(fault)
        return len(data)

    def _allocate(self, handle: _Handle, size_bytes: int) -> None:
        growth = size_bytes - handle.inode.allocated_bytes
        if growth <= 0:
            return
        if growth > self._free_bytes():
            raise _error(errno.ENOSPC, handle.path)
        handle.inode.allocated_bytes = size_bytes

    def fdatasync(self, fd: int) -> None:
        handle = self._handle(fd)
        fault = self._call("fdatasync", handle.path)
        for change in handle.inode.pending:
            _apply(handle.inode.medium, change)
        handle.inode.pending.clear()
        self._after(fault)

    def preallocate(self, fd: int, length: int) -> None:
        handle = self._handle(fd)
        fault = self._call("preallocate", handle.path)
        self._allocate(handle, length)
        self._resize(handle.inode, max(length, len(handle.inode.content)))
        self._after(fault)

    def truncate(self, fd: int, length: int) -> None:
        handle = self._handle(fd)
        fault = self._call("truncate", handle.path)
        handle.inode.allocated_bytes = min(handle.inode.allocated_bytes, length)
        self._resize(handle.inode, length)
        self._after(fault)

    def _resize(self, inode: _Inode, size_bytes: int) -> None:
        change = _Resize(size_bytes)
        _apply(inode.content, change)
        inode.pending.append(change)

    def drop_cache(self, fd: int) -> None:
        inode = self._handle(fd).inode
        inode.content[:] = inode.medium
        for change in inode.pending:
            _apply(inode.content, change)

    def try_lock(self, fd: int) -> bool:
        handle = self._handle(fd)
        self._call("try_lock", handle.path)
        if handle.inode.locked_by not in (None, fd):
            return False
        handle.inode.locked_by = fd
        return True

    # --- Disk: names

    def stat(self, path: str) -> FileStat | None:
        self._call("stat", path)
        try:
            inode = self._find(path)
        except FileNotFoundError:
            return None
        return FileStat(len(inode.content), inode.mode, inode.owner_uid, inode.is_dir)

    def rename(self, source: str, target: str) -> None:
        fault = self._call("rename", target)
        source_parent, source_name = self._parent(source)
        target_parent, target_name = self._parent(target)
        inode = source_parent.names.get(source_name)
        if inode is None:
            raise _error(errno.ENOENT, source)
        for handle in self._handles.values():
            if handle.inode is inode:
                handle.path = target
        if source_parent is target_parent:
            self._rename_in(source_parent, (source_name, None), (target_name, inode))
        else:
            self._rename_in(target_parent, (target_name, inode))
            self._rename_in(source_parent, (source_name, None))
        self._after(fault)

    def unlink(self, path: str) -> None:
        fault = self._call("unlink", path)
        parent, name = self._parent(path)
        if name not in parent.names:
            raise _error(errno.ENOENT, path)
        self._rename_in(parent, (name, None))
        self._after(fault)

    def mkdir(self, path: str) -> None:
        fault = self._call("mkdir", path)
        parent, name = self._parent(path)
        if name in parent.names:
            raise _error(errno.EEXIST, path)
        inode = _Inode(is_dir=True, mode=0o700, owner_uid=self._owner_uid)
        self._rename_in(parent, (name, inode))
        self._after(fault)

    def listdir(self, path: str) -> list[str]:
        self._call("listdir", path)
        return sorted(self._find(path).names)

    def fsync_dir(self, path: str) -> None:
        fault = self._call("fsync_dir", path)
        directory = self._find(path)
        directory.medium_names = dict(directory.names)
        directory.pending_names.clear()
        directory.pending_groups.clear()
        self._after(fault)

    def free_bytes(self, path: str) -> int:
        self._call("free_bytes", path)
        return self._free_bytes()

    def _free_bytes(self) -> int:
        inodes = {id(inode): inode for inode in self._inodes()}
        inodes.update((id(handle.inode), handle.inode) for handle in self._handles.values())
        return self.capacity_bytes - sum(inode.allocated_bytes for inode in inodes.values())

    def filesystem(self, path: str) -> str:
        self._call("filesystem", path)
        return self.filesystem_type

    def _rename_in(self, directory: _Inode, *changes: tuple[str, _Inode | None]) -> None:
        """All changes of one call happen together, also in a crash."""
        group = self.calls
        for name, inode in changes:
            _name(directory.names, name, inode)
            directory.pending_names.append((name, inode))
            directory.pending_groups.append(group)

    def _parent(self, path: str) -> tuple[_Inode, str]:
        directory, _, name = path.rpartition("/")
        return self._find(directory), name

    def _find(self, path: str) -> _Inode:
        inode = self._root
        for part in path.split("/"):
            if part:
                if part not in inode.names:
                    raise _error(errno.ENOENT, path)
                inode = inode.names[part]
        return inode


def _nothing(method: str, path: str) -> None:
    return None


def _ignore() -> None: ...


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


def _name(names: dict[str, _Inode], name: str, inode: _Inode | None) -> None:
    if inode is None:
        names.pop(name, None)
    else:
        names[name] = inode


def _apply(content: bytearray, change: _Write | _Resize) -> None:
    if isinstance(change, _Write):
        end = change.offset + len(change.data)
        if change.offset > len(content):
            content.extend(bytes(change.offset - len(content)))
        content[change.offset : end] = change.data
    elif change.size_bytes < len(content):
        del content[change.size_bytes :]
    else:
        content.extend(bytes(change.size_bytes - len(content)))


def sectors(offset: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    """A write, cut where sectors begin: each piece with its offset."""
    start, end = offset, offset + len(data)
    while offset < end:
        stop = min(end, offset - offset % SECTOR_BYTES + SECTOR_BYTES)
        yield offset, data[offset - start : stop - start]
        offset = stop


def _some(things: Sequence[int], rng: random.Random) -> set[int]:
    """All, none, a prefix, or any subset."""
    way = rng.random()
    if way < 0.1:
        return set()
    if way < 0.2:
        return set(things)
    if way < 0.5:
        return set(things[: rng.randint(0, len(things))])
    return {thing for thing in things if rng.random() < 0.5}


def _copied(inode: _Inode) -> _Inode:
    twin = _Inode(is_dir=inode.is_dir, mode=inode.mode, owner_uid=inode.owner_uid)
    twin.content[:] = inode.content
    twin.allocated_bytes = len(inode.content)
    twin.names = {name: _copied(child) for name, child in inode.names.items()}
    twin.settle()
    return twin
