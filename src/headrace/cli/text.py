"""Text from elsewhere, made harmless for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` with every control character but newline and tab shown as its escape.

    Names, errors and payloads come from anybody; an escape sequence in one of them could
    rewrite what a person sees.
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character in "\n\t"
        else character.encode("unicode_escape").decode()
        for character in text
    )
