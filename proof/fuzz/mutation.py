"""Inputs made from inputs: all the small damages in order, and the random ones.

The systematic half is what the golden vectors get: whole, cut at each length, each bit
flipped, bytes behind it, two of them joined. The random half is for the guided search.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import msgspec

INTERESTING = (0x00, 0x01, 0x7F, 0x80, 0xFF, 0x90, 0xC0, 0xDD, 0xDF, 0xC6)
APPENDED = (b"\0", b"\xff", b"\xc0", bytes(64), b"\xdd\xff\xff\xff\xff")


class Extent(msgspec.Struct, frozen=True):
    """How far the systematic half goes."""

    exhaustive_bytes_max: int
    sampled: int
    """Cuts, and flips, of a seed that is longer."""


def systematic(
    seed: bytes, others: Sequence[bytes], extent: Extent, chance: random.Random
) -> Iterator[bytes]:
    """The seed and every small damage to it."""
    yield seed
    for length in _chosen(len(seed), seed, extent, chance):
        yield seed[:length]
    for bit in _chosen(8 * len(seed), seed, extent, chance):
        flipped = bytearray(seed)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bytes(flipped)
    for tail in APPENDED:
        yield seed + tail
    yield seed + seed
    for other in chance.sample(list(others), min(2, len(others))):
        yield seed + other
        yield _interleaved(seed, other)


def _chosen(count: int, seed: bytes, extent: Extent, chance: random.Random) -> Sequence[int]:
    if len(seed) <= extent.exhaustive_bytes_max:
        return range(count)
    return sorted(chance.sample(range(count), min(count, extent.sampled)))


def _interleaved(one: bytes, other: bytes) -> bytes:
    """Pieces of eight bytes in turn."""
    out = bytearray()
    for at in range(0, max(len(one), len(other)), 8):
        out += one[at : at + 8] + other[at : at + 8]
    return bytes(out)


def havoc(chance: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """One to six changes that know nothing of what the bytes mean."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3, 6))):
        _change(chance, found, others)
    return bytes(found)


def _change(chance: random.Random, found: bytearray, others: Sequence[bytes]) -> None:
    size = len(found)
    at = chance.randrange(size + 1)
    way = chance.randrange(7)
    if way == 0 and at < size:
        found[at] ^= 1 << chance.randrange(8)
    elif way == 1 and at < size:
        found[at] = chance.choice(INTERESTING)
    elif way == 2:
        found[at:at] = chance.randbytes(chance.choice((1, 1, 2, 4, 8)))
    elif way == 3:
        del found[at : at + chance.choice((1, 1, 2, 4, 16))]
    elif way == 4:
        width = chance.choice((1, 2, 4, 8))
        number = chance.choice((0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF))
        order = chance.choice(("big", "little"))
        masked = number & (1 << 8 * width) - 1
        found[at : at + width] = masked.to_bytes(width, order)  # type: ignore[arg-type]
    elif way == 5:
        length = chance.randrange(1, 32)
        found[at:at] = found[at : at + length]
    elif others:
        other = chance.choice(others)
        start = chance.randrange(len(other) + 1)
        found[at : at + chance.randrange(32)] = other[start : start + chance.randrange(64)]


def texts(words: Sequence[str]) -> MutateText:
    return MutateText(tuple(words))


class MutateText:
    """Changes of a text that stay text most of the time, with words that a parser knows."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self._words = words

    def __call__(self, chance: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
        if chance.random() < 0.15:
            return havoc(chance, data, others)
        text = data.decode("utf-8", "surrogateescape")
        for _ in range(chance.choice((1, 1, 2, 4))):
            at = chance.randrange(len(text) + 1)
            text = self._changed(chance, text, at, others)
        return text.encode("utf-8", "surrogatepass")

    def _changed(self, chance: random.Random, text: str, at: int, others: Sequence[bytes]) -> str:
        way = chance.randrange(6)
        if way <= 1:
            return text[:at] + chance.choice(self._words) + text[at:]
        if way == 2:
            return text[:at] + text[at + chance.choice((1, 1, 3, 9)) :]
        if way == 3:
            return text[:at] + chance.choice(ODD_TEXTS) + text[at:]
        if way == 4 and others:
            other = chance.choice(others).decode("utf-8", "replace")
            return text[:at] + other[chance.randrange(len(other) + 1) :]
        length = chance.randrange(1, 9)
        return text[:at] + text[at : at + length] * chance.choice((2, 2, 3, 40, 700)) + text[at:]


ODD_TEXTS = (
    "\0", "\n", " ", "\t", "\u00a0", "\u2028", "\ufeff", "٣", "²", "½", "ß", "İ", "\U0001f600",
    "%00", "%", "\\", '"', "'", "[", "]", "{", "}", "=", ",", ":", "/", "@", "#", "-", "+", ".",
    "_", "0x", "1e999", "nan", "inf", "-1", "9" * 20, "9" * 70, "9" * 5_000, "0" * 40, "1_000",
)  # fmt: skip
