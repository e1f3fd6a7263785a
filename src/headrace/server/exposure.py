"""Whether a server may listen where it was told to, and the token that it asks for.

Must never open a port beyond loopback because of a default, and never show a token.
"""

from __future__ import annotations

from headrace.model.env import Disk
from headrace.model.errors import BadSettings
from headrace.model.limits import TOKEN_BYTES_MAX
from headrace.model.settings import ServerSettings, is_loopback, listen_address

_OTHERS_MAY = 0o077
_FILE_BYTES_MAX = 8 * TOKEN_BYTES_MAX
"""Of a token file, blanks included: a longer one is refused, never read in part."""


def check_exposure(settings: ServerSettings) -> None:
    """Every address is loopback, or its owner has said yes to both consequences.

    Raises: `BadSettings`, with what is missing and what it would mean.
    """
    beyond = [text for text in settings.listen if not is_loopback(listen_address(text)[0])]
    if not beyond:
        return
    problems = []
    if not settings.insecure_plaintext:
        problems.append(
            f"listening on {', '.join(beyond)} needs --insecure-plaintext: other machines can"
            " connect, and whoever sits in between can read tokens, payloads and results."
        )
    if not settings.token_file:
        problems.append(
            f"listening on {', '.join(beyond)} needs --token-file: without a token, whoever"
            " reaches the port can enqueue, read and delete every job."
        )
    if problems:
        raise BadSettings(problems)


def read_token(disk: Disk, path: str) -> str | None:
    """The token in the file, without surrounding blanks; None for no path.

    Raises: `BadSettings` when it cannot be read, holds no token, or others may read it.
    """
    if not path:
        return None
    try:
        text = _read(disk, path)
    except OSError as error:
        raise BadSettings([f"token file {path}: {error.strerror}."]) from error
    token = text.decode("utf-8", "replace").strip()
    if len(text) > _FILE_BYTES_MAX or not 0 < len(token.encode()) <= TOKEN_BYTES_MAX:
        raise BadSettings([f"token file {path}: needs 1 to {TOKEN_BYTES_MAX} bytes of text."])
    return token


def _read(disk: Disk, path: str) -> bytes:
    found = disk.stat(path)
    if found is not None and found.mode & _OTHERS_MAY:
        mode = f"{found.mode:04o}"
        raise BadSettings(
            [f"token file {path}: other users may read it (mode {mode}). Run: chmod 600 {path}"]
        )
    fd = disk.open(path)
    try:
        return disk.pread(fd, _FILE_BYTES_MAX + 1, 0)
    finally:
        disk.close(fd)
