"""Every state of a disk that a crash may leave behind a sequence of calls.

Theory (ALICE, Pillai et al., OSDI 2014). What was not synced is a list of *units*, each of
which reached the medium or did not, whatever became of the others:

- a 512-byte sector of a write, which may also have stopped at any byte inside;
- the change of a file's size, apart from the bytes that a write put there;
- the names that one call changed: both halves of a rename, or neither. A rename into
  another directory is two units; the old name goes only if the new one came.

`fdatasync` settles a file, `fsync_dir` the names of a directory. A state is a choice of
the units that are kept: all choices where there are few units, else the extremes and a
sample.

Must never be milder than `Disk` promises; it is as harsh as `SimDisk.crash`, and can name
and repeat each state. Not modelled: rot, and old content of blocks that a file never had.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from headrace.testing.sim_disk import SimDisk, sectors

Tree = dict[str, bytes | None]
"""Content by path; None for a directory."""
ROOT_NODE = 0


class Op(msgspec.Struct, frozen=True):
    """One call that changed something, or made changes durable.

    Files and directories have numbers, which a rename does not change.
    """

    method: str
    path: str
    node: int
    is_dir: bool = False
    removed: tuple[int, str] | None = None
    """Directory and name that are gone."""
    added: tuple[int, str] | None = None
    offset: int = 0
    data: bytes = b""
    size_bytes: int = 0

    def describe(self) -> str:
        detail = ""
        if self.method in ("pwrite", "pwritev"):
            detail = f" {len(self.data)} bytes at {self.offset}"
        elif self.method in ("preallocate", "truncate"):
            detail = f" to {self.size_bytes} bytes"
        return f"{self.method} {self.path}{detail}"


class Unit(msgspec.Struct, frozen=True, eq=False):
    """A part of one call that is on the medium, or is not."""

    op_no: int
    node: int
    """The file or directory that it changes."""
    names: tuple[tuple[str, int | None], ...] = ()
    """Of a directory: name and what it is, None when it is gone."""
    offset: int = 0
    data: bytes = b""
    size_bytes: int = -1
    """New size of a file, without any bytes."""
    needs: Unit | None = None
    """Kept only if that one is kept, too."""

    def describe(self) -> str:
        if self.names:
            said = ", ".join(
                f"{name} is {'gone' if node is None else f'file {node}'}"
                for name, node in self.names
            )
            return f"call {self.op_no}: name {said}"
        if self.size_bytes >= 0:
            return f"call {self.op_no}: size {self.size_bytes}"
        return f"call {self.op_no}: bytes {self.offset}..{self.offset + len(self.data)}"


class Choice(msgspec.Struct, frozen=True):
    """Which units of a moment are on the medium."""

    kept: tuple[int, ...]
    """Positions in `units()`, ascending."""
    cut: tuple[int, int] | None = None
    """Position of a sector that stopped inside, and how many of its bytes came."""


class CrashStates:
    """The medium, and what is on its way there. Feed it calls; ask it for states."""

    def __init__(self, tree: Tree | None = None) -> None:
        """`tree` is on the medium; its nodes are numbered in the order of their paths."""
        self._content: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {ROOT_NODE: {}}
        self._seen_bytes: dict[int, int] = {}
        self._units: list[Unit] = []
        self._live: list[Unit] | None = None
        self._op_no = 0
        numbers = {"": ROOT_NODE}
        for path in sorted(tree or {}):
            numbers[path] = len(numbers)
            self._make(numbers[path], content=(tree or {})[path])
            parent, _, name = path.rpartition("/")
            self._names[numbers[parent]][name] = numbers[path]

    def _make(self, node: int, content: bytes | None) -> None:
        if content is None:
            self._names[node] = {}
        else:
            self._content[node] = content
            self._seen_bytes[node] = len(content)

    # --- calls

    def apply(self, op: Op) -> None:
        self._live = None
        if op.method in ("open", "mkdir"):
            self._make(op.node, None if op.is_dir else b"")
            self._rename(op)
        elif op.method in ("rename", "unlink"):
            self._rename(op)
        elif op.method in ("pwrite", "pwritev"):
            self._write(op)
        elif op.method == "preallocate":
            self._resize(op.node, max(op.size_bytes, self._seen_bytes[op.node]))
        elif op.method == "truncate":
            self._resize(op.node, op.size_bytes)
        elif op.method == "poke":
            self._poke(op)
        else:
            self._settle(op.node)
        self._op_no += 1

    def _rename(self, op: Op) -> None:
        changes: dict[int, list[tuple[str, int | None]]] = {}
        if op.added is not None:
            changes.setdefault(op.added[0], []).append((op.added[1], op.node))
        if op.removed is not None:
            changes.setdefault(op.removed[0], []).append((op.removed[1], None))
        needs = None
        for directory, names in changes.items():
            needs = Unit(self._op_no, directory, tuple(names), needs=needs)
            self._units.append(needs)

    def _write(self, op: Op) -> None:
        end = op.offset + len(op.data)
        if end > self._seen_bytes[op.node]:
            self._resize(op.node, end)
        for offset, data in sectors(op.offset, op.data):
            self._units.append(Unit(self._op_no, op.node, offset=offset, data=data))

    def _resize(self, node: int, size_bytes: int) -> None:
        if size_bytes != self._seen_bytes[node]:
            self._seen_bytes[node] = size_bytes
            self._units.append(Unit(self._op_no, node, size_bytes=size_bytes))

    def _poke(self, op: Op) -> None:
        """Behind everybody's back, and durable."""
        if op.added is not None:
            self._names[op.added[0]][op.added[1]] = op.node
        self._units = [unit for unit in self._units if unit.node != op.node]
        self._content[op.node] = op.data
        self._seen_bytes[op.node] = len(op.data)

    def _settle(self, node: int) -> None:
        mine = [unit for unit in self._units if unit.node == node]
        if node in self._names:
            _give_names(self._names[node], mine)
        else:
            self._content[node] = _with_pieces(self._content[node], mine)
        self._units = [unit for unit in self._units if unit.node != node]

    # --- states

    def units(self) -> list[Unit]:
        """What is not durable, oldest first; without files that no name can lead to."""
        if self._live is None:
            reachable = self._reachable()
            self._live = [unit for unit in self._units if unit.node in reachable]
        return self._live

    def _reachable(self) -> set[int]:
        found: set[int] = set()
        waiting = [ROOT_NODE]
        while waiting:
            node = waiting.pop()
            if node in found:
                continue
            found.add(node)
            waiting += self._names.get(node, {}).values()
            for unit in self._units:
                if unit.node == node:
                    waiting += [child for _, child in unit.names if child is not None]
        return found

    def tree(self, choice: Choice) -> Tree:
        """What the medium has when these units are kept and no others."""
        units = self.units()
        kept: dict[int, list[Unit]] = {}
        for at in choice.kept:
            unit = units[at]
            if unit.needs in units and units.index(unit.needs) not in choice.kept:
                continue
            if choice.cut is not None and choice.cut[0] == at:
                unit = msgspec.structs.replace(unit, data=unit.data[: choice.cut[1]])
            kept.setdefault(unit.node, []).append(unit)
        tree: Tree = {}
        self._grow(tree, "", ROOT_NODE, kept)
        return tree

    def _grow(self, tree: Tree, path: str, node: int, kept: dict[int, list[Unit]]) -> None:
        if node not in self._names:
            content = self._content[node]
            tree[path] = _with_pieces(content, kept[node]) if node in kept else content
            return
        if path:
            tree[path] = None
        names = self._names[node]
        if node in kept:
            names = dict(names)
            _give_names(names, kept[node])
        for name, child in names.items():
            self._grow(tree, f"{path}/{name}", child, kept)


def _give_names(names: dict[str, int], units: Iterable[Unit]) -> None:
    for unit in units:
        for name, node in unit.names:
            if node is None:
                names.pop(name, None)
            else:
                names[name] = node


def _with_pieces(content: bytes, units: Iterable[Unit]) -> bytes:
    changed = bytearray(content)
    for unit in units:
        end = unit.size_bytes if unit.size_bytes >= 0 else unit.offset + len(unit.data)
        if len(changed) < end:
            changed.extend(bytes(end - len(changed)))
        if unit.size_bytes >= 0:
            del changed[end:]
        else:
            changed[unit.offset : end] = unit.data
    return bytes(changed)


# --- choices

EXTREME_UNITS_MAX = 24
"""Of more units than that, prefixes and all-but-ones are a sample too."""
RANDOM_CHOICES_MIN = 4


def all_choices(units: Sequence[Unit]) -> Iterator[Choice]:
    """Every subset; and each sector torn, with all others and alone."""
    everything = tuple(range(len(units)))
    for mask in range(1 << len(units)):
        yield Choice(tuple(at for at in everything if mask >> at & 1))
    for at, unit in enumerate(units):
        if len(unit.data) > 1:
            yield Choice(everything, (at, len(unit.data) // 2))
            yield Choice((at,), (at, len(unit.data) // 2))


def some_choices(units: Sequence[Unit], count: int, draw: random.Random) -> Iterator[Choice]:
    """The extremes, then random subsets up to `count`; at least a few of them.

    Extremes: nothing, everything, only the last, each prefix, all but one.
    """
    everything = tuple(range(len(units)))
    yield Choice(())
    yield Choice(everything)
    yield Choice(everything[-1:])
    inner = [everything[:length] for length in range(1, len(units))]
    inner += [everything[:at] + everything[at + 1 :] for at in range(len(units) - 1)]
    if len(units) > EXTREME_UNITS_MAX:
        inner = draw.sample(inner, 2 * EXTREME_UNITS_MAX)
    for kept in inner:
        yield Choice(kept)
    for _ in range(max(count - len(inner) - 3, RANDOM_CHOICES_MIN)):
        yield random_choice(units, draw)


def random_choice(units: Sequence[Unit], draw: random.Random) -> Choice:
    share = draw.choice((0.1, 0.5, 0.9))
    kept = tuple(at for at in range(len(units)) if draw.random() < share)
    sectors = [at for at in kept if len(units[at].data) > 1]
    if not sectors or draw.random() < 0.5:
        return Choice(kept)
    at = draw.choice(sectors)
    return Choice(kept, (at, draw.randrange(1, len(units[at].data))))


def fill(disk: SimDisk, tree: Tree) -> None:
    """`disk`, which is empty, durably holds `tree`."""
    for path in sorted(tree):
        content = tree[path]
        if content is None:
            disk.mkdir(path)
        else:
            disk.poke(path, content)
    disk.sync_all()
    disk.calls = 0
    disk.trace.clear()
