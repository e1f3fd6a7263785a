"""What may name a queue or a kind: one rule for both ends of the wire."""

from __future__ import annotations

import unicodedata

from headrace.model.errors import BadName
from headrace.model.limits import NAME_BYTES_MAX


def check_name(what: str, name: str) -> None:
    """Nothing when `name` may name a `what`. Raises: `BadName`."""
    try:
        size_bytes = len(name.encode())
    except UnicodeEncodeError:
        raise BadName(f"The {what} name {name[:40]!r} is not UTF-8.") from None
    if not 1 <= size_bytes <= NAME_BYTES_MAX:
        raise BadName(
            f"The {what} name {name[:40]!r} has {size_bytes} bytes; "
            f"1 to {NAME_BYTES_MAX} are allowed."
        )
    if name[0] == "$":
        raise BadName(f"The {what} name {name!r} begins with `$`, which is reserved.")
    if not name.isprintable() and any(unicodedata.category(letter) == "Cc" for letter in name):
        raise BadName(f"The {what} name {name!r} has a control character.")
