"""One 64-bit seed for each command, without a system call for each."""

from __future__ import annotations

import struct

from headrace.model.env import Entropy

_SEEDS_PER_DRAW = 256
_DRAW = struct.Struct(f"<{_SEEDS_PER_DRAW}Q")


class Seeds:
    """Independent seeds, drawn from the kernel by the block.

    A running counter would be cheaper but wrong: the engine steps through numbers from its
    seed on, so the draws of neighbouring commands, and the ids made of them, would overlap.
    """

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._left: list[int] = []

    def next(self) -> int:
        left = self._left
        if not left:
            left.extend(_DRAW.unpack(self._entropy.random_bytes(_DRAW.size)))
        return left.pop()
