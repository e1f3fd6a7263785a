"""MessagePack taken apart and put together wrongly on purpose.

A mutation by bytes nearly always ends in the same refusal: a length that does not fit. Here
a value becomes a tree, one node of it is bent, and everything around it stays well formed.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence

import msgspec

DEPTH_MAX = 64
"""Deeper input stays one leaf."""


class Leaf(msgspec.Struct):
    """Bytes that are written as they are, whether they mean anything or not."""

    raw: bytes


class Branch(msgspec.Struct):
    """An array, or a map with keys and values in turn."""

    is_map: bool
    children: list[Leaf | Branch]
    head: bytes = b""
    """Written in place of the right head, when set: a lie about the length."""


Node = Leaf | Branch

INTS = tuple(
    sign * (1 << bits) + off
    for bits in (0, 7, 8, 15, 16, 31, 32, 53, 62, 63)
    for off in (-1, 0, 1)
    for sign in (1, -1)
    if -(1 << 63) <= sign * (1 << bits) + off < 1 << 64
)

ODD_LEAVES = (
    b"\xc0",  # nil
    b"\xc1",  # never used
    b"\xc2",
    b"\xc3",
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",  # NaN
    b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00",  # infinity
    b"\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00",  # 1.0
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00",
    b"\xa0",
    b"\xa2\xff\xfe",  # no UTF-8
    b"\xa3\xed\xa0\x80",  # a surrogate
    b"\xa1\x00",
    b"\xa1$",
    b"\xc4\x00",
    b"\xc4\x10" + bytes(16),
    b"\xc4\x0f" + bytes(15),
    b"\xc7\x00\x05",  # extension of no length
    b"\xd6\xff\x00\x00\x00\x01",  # timestamp
    b"\x90",
    b"\x80",
    b"\xd9\x81" + b"n" * 129,  # one byte longer than a name may be
    b"\xda\x10\x00" + b"x" * 4096,
)

HUGE = (0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x10000, 0xFFFFFF)
NESTINGS = (3, 60, 1_100, 20_000)


def decode(data: bytes) -> Node:
    """The first value of `data` as a tree; what cannot be followed is one leaf."""
    try:
        node, end = _read(data, 0, 0)
    except (IndexError, struct.error):
        return Leaf(data)
    return node if end == len(data) else Leaf(data)


def encode(node: Node) -> bytes:
    out = bytearray()
    _write(node, out)
    return bytes(out)


def mutated(chance: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """`data` with one to three nodes bent."""
    root = Branch(False, [decode(data)], head=b"\0")  # so that the root has a parent as well
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        parent, at = chance.choice(list(_places(root)))
        _bend(chance, parent, at, others)
    return b"".join(encode(child) for child in root.children)


def _places(root: Branch) -> Iterator[tuple[Branch, int]]:
    for at, child in enumerate(root.children):
        yield root, at
        if isinstance(child, Branch):
            yield from _places(child)
    if not root.children:
        yield root, 0


def _bend(chance: random.Random, parent: Branch, at: int, others: Sequence[bytes]) -> None:
    children = parent.children
    way = chance.randrange(12)
    if not children or way == 0:
        children.insert(at, Leaf(chance.choice(ODD_LEAVES)))
    elif way == 1:
        del children[at]
    elif way == 2:
        children.insert(at, children[at])
    elif way == 3:
        other = chance.randrange(len(children))
        children[at], children[other] = children[other], children[at]
    elif way in (4, 5, 6):
        children[at] = Leaf(chance.choice(ODD_LEAVES))
    elif way in (7, 8):
        children[at] = Leaf(msgspec.msgpack.encode(chance.choice(INTS)))
    elif way == 9:
        children[at] = _lying(chance, children[at])
    elif way == 10:
        depth = chance.choice(NESTINGS)
        children[at] = Leaf(chance.choice((b"\x91", b"\x81\xa1k")) * depth + b"\xc0")
    elif others:
        places = list(_places(Branch(False, [decode(chance.choice(others))])))
        source, place = chance.choice(places)
        if source.children:
            children[at] = source.children[place]


def _lying(chance: random.Random, node: Node) -> Node:
    """The same bytes under a head that says another length, or another type."""
    if isinstance(node, Branch):
        real = len(node.children) // (1 + node.is_map)
        said = chance.choice((*HUGE, real + 1, max(0, real - 1)))
        marker = chance.choice((b"\xdd", b"\xdf"))
        return Branch(node.is_map, list(node.children), marker + struct.pack(">I", said))
    body = node.raw[1:]
    said = chance.choice((*HUGE, len(body) + 1, max(0, len(body) - 1)))
    return Leaf(
        chance.choice((b"\xc6", b"\xdb", b"\xdd", b"\xdf")) + struct.pack(">I", said) + body
    )


# --- reading

_FIXED = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_FIXED |= {0xC0: 0, 0xC1: 0, 0xC2: 0, 0xC3: 0, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}
_COUNTED = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
_EXTENSIONS = {0xC7: ">B", 0xC8: ">H", 0xC9: ">I"}
_BRANCHES = {0xDC: ">H", 0xDD: ">I", 0xDE: ">H", 0xDF: ">I"}


def _read(data: bytes, offset: int, depth: int) -> tuple[Node, int]:
    marker = data[offset]
    if 0x80 <= marker <= 0x9F:
        return _read_branch(data, offset + 1, depth, marker < 0x90, marker & 0x0F)
    if marker in _BRANCHES:
        form = _BRANCHES[marker]
        (count,) = struct.unpack_from(form, data, offset + 1)
        start = offset + 1 + struct.calcsize(form)
        return _read_branch(data, start, depth, marker >= 0xDE, count)
    end = offset + 1 + _leaf_bytes(data, offset, marker)
    if end > len(data):
        raise IndexError
    return Leaf(data[offset:end]), end


def _leaf_bytes(data: bytes, offset: int, marker: int) -> int:
    if 0xA0 <= marker <= 0xBF:
        return marker & 0x1F
    form = _COUNTED.get(marker) or _EXTENSIONS.get(marker)
    if form is None:
        return _FIXED.get(marker, 0)
    (length,) = struct.unpack_from(form, data, offset + 1)
    return struct.calcsize(form) + int(length) + (marker in _EXTENSIONS)


def _read_branch(
    data: bytes, offset: int, depth: int, is_map: bool, count: int
) -> tuple[Node, int]:
    children: list[Node] = []
    if depth >= DEPTH_MAX:
        raise IndexError
    for _ in range(count * (1 + is_map)):
        child, offset = _read(data, offset, depth + 1)
        children.append(child)
    return Branch(is_map, children), offset


def _write(node: Node, out: bytearray) -> None:
    if isinstance(node, Leaf):
        out += node.raw
        return
    out += node.head or _head(node)
    for child in node.children:
        _write(child, out)


def _head(node: Branch) -> bytes:
    count = len(node.children) // (1 + node.is_map)
    if count < 16:
        return bytes([(0x80 if node.is_map else 0x90) | count])
    return (b"\xde" if node.is_map else b"\xdc") + struct.pack(">H", count)
