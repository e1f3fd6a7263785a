"""Seeds from one root: what one part of a life draws never moves what another draws."""

from __future__ import annotations

import hashlib


def derived(root: int, *names: str | int) -> int:
    """64 bits that depend on the root and on every name, and on nothing else."""
    text = "/".join(str(name) for name in (root, *names))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
