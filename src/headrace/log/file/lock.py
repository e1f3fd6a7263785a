"""`LOCK`: one process leads a directory; its text says which, for the one that came second.

`flock` on the open file ends with the process, however it ends; the text is only for
messages. Children do not inherit the descriptor.
"""

from __future__ import annotations

import msgspec

from headrace.log.file.disk_io import close_quietly, read_whole, write_fully
from headrace.log.file.layout import Layout
from headrace.model.env import Disk, LogEnv
from headrace.model.errors import Locked

_PID_DIGITS_MAX = 10


class Holder(msgspec.Struct, frozen=True):
    """Who wrote LOCK last; it need not hold it any more."""

    pid: int = 0
    host: str = ""
    boot_id: str = ""

    def describe(self) -> str:
        if not self.pid:
            return "another process"
        return f"process {self.pid} on host {self.host}"


class DirectoryLock:
    """Held from construction to `release`. Raises: `Locked`."""

    def __init__(self, env: LogEnv, layout: Layout) -> None:
        self._disk = env.disk
        self._fd = _open(env.disk, layout.lock)
        try:
            taken = self._take(env)
        except BaseException:
            self.release()
            raise
        if not taken:
            self.release()
            raise _locked(layout, read_holder(env.disk, layout))

    def _take(self, env: LogEnv) -> bool:
        if not self._disk.try_lock(self._fd):
            return False
        host = env.host
        text = f"pid={host.pid()}\nhost={host.hostname()}\nboot_id={host.boot_id()}\n".encode()
        self._disk.truncate(self._fd, 0)
        write_fully(self._disk, self._fd, text, 0)
        return True

    def release(self) -> None:
        close_quietly(self._disk, self._fd)


def read_holder(disk: Disk, layout: Layout) -> Holder:
    try:
        text = read_whole(disk, layout.lock).decode(errors="replace")
    except FileNotFoundError:
        return Holder()
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    pid = found.get("pid", "")
    return Holder(
        pid=int(pid) if len(pid) <= _PID_DIGITS_MAX and pid.isascii() and pid.isdigit() else 0,
        host=found.get("host", ""),
        boot_id=found.get("boot_id", ""),
    )


def in_use(env: LogEnv, holder: Holder) -> bool | None:
    """Whether the process that wrote LOCK lives, as far as can be told without the lock."""
    if not holder.pid:
        return False
    if holder.host != env.host.hostname():
        return None
    same_boot = holder.boot_id == env.host.boot_id()
    return same_boot and env.host.process_exists(holder.pid)


def _open(disk: Disk, path: str) -> int:
    try:
        return disk.open(path, write=True)
    except FileNotFoundError:
        pass
    try:
        return disk.open(path, create=True, write=True)
    except FileExistsError:  # another process came first
        return disk.open(path, write=True)


def _locked(layout: Layout, holder: Holder) -> Locked:
    return Locked(
        f"{layout.root} is in use by {holder.describe()}.",
        hint="Connect to that process, or stop it first.",
        pid=holder.pid,
        host=holder.host,
    )
