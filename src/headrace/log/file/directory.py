"""The data directory itself: made when missing, and refused when it cannot be trusted.

Whoever may write there may forge jobs; a network file system keeps neither `flock` nor
`fsync` promises that the log builds on.
"""

from __future__ import annotations

from contextlib import suppress

from headrace.log.file.layout import Layout, parse_segment_name, parse_snapshot_name
from headrace.model.env import Disk, FileStat, LogEnv
from headrace.model.errors import CurrentDamaged, UnsafeDirectory

NETWORK_FILESYSTEMS = frozenset(
    [
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "fuse.glusterfs",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "orangefs",
        "smb2",
        "smb3",
        "smbfs",
    ]
)
GROUP_OR_WORLD_WRITE = 0o022


def make_directories(env: LogEnv, layout: Layout) -> None:
    """All directories durably exist, mode 0700. Raises: `UnsafeDirectory`.

    Those found are synced as well: who made them may have been killed before the sync.
    """
    for path in (layout.root, *layout.directories):
        try:
            if env.disk.stat(path) is None:
                env.disk.mkdir(path)
        except FileExistsError:
            pass
        except OSError as error:
            raise UnsafeDirectory(
                f"cannot make {path}: {error.strerror}.",
                hint="Make its parent directory, or choose a place where this user may write.",
            ) from error
    # A parent that this user cannot read was made, and synced, by somebody else.
    with suppress(PermissionError):
        env.disk.fsync_dir(layout.root.rpartition("/")[0] or "/")
    env.disk.fsync_dir(layout.root)


def check_directory(env: LogEnv, layout: Layout) -> None:
    """Raises: `UnsafeDirectory` when a file there could be changed by somebody else."""
    kind = env.disk.filesystem(layout.root)
    if kind in NETWORK_FILESYSTEMS:
        raise UnsafeDirectory(
            f"{layout.root} is on a network file system ({kind}), which keeps neither locks nor "
            "syncs as a log needs them.",
            hint="Use a local disk; for several machines run a server and connect to it.",
        )
    for path in (layout.root, *layout.directories):
        _check_owner(env, path, env.disk.stat(path))


def _check_owner(env: LogEnv, path: str, found: FileStat | None) -> None:
    if found is None:
        return
    if not found.is_dir:
        raise UnsafeDirectory(f"{path} is not a directory.", hint="Choose another place.")
    if found.owner_uid != env.host.uid():
        raise UnsafeDirectory(
            f"{path} belongs to user {found.owner_uid}, this process runs as user "
            f"{env.host.uid()}.",
            hint=f"Run as its owner, or `chown -R {env.host.uid()} {path}`.",
        )
    if found.mode & GROUP_OR_WORLD_WRITE:
        raise UnsafeDirectory(
            f"{path} can be written by others (mode {found.mode:04o}).",
            hint=f"`chmod 700 {path}`.",
        )


def is_new(disk: Disk, layout: Layout) -> bool:
    """No log is here yet. Raises: `CurrentDamaged` when one is, without its CURRENT.

    CURRENT is the first file of a new log, so a crash while it is made leaves no segment.
    """
    if disk.stat(layout.current) is not None:
        return False
    left = [name for name in list_if_there(disk, layout.wal) if parse_segment_name(name)]
    left += [name for name in list_if_there(disk, layout.snapshots) if parse_snapshot_name(name)]
    if left:
        raise CurrentDamaged(
            f"{layout.current} is missing, but {layout.root} holds {len(left)} segments and "
            f"snapshots, such as {left[0]}.",
            hint=f"Run `headrace repair {layout.root} --rebuild-current`.",
            path=layout.current,
        )
    return True


def require_log(disk: Disk, layout: Layout) -> None:
    """Raises: `UnsafeDirectory` when no log is here; `CurrentDamaged` as `is_new`."""
    if is_new(disk, layout):
        raise UnsafeDirectory(f"{layout.root} holds no headrace data.", hint="Check the path.")


def list_if_there(disk: Disk, path: str) -> list[str]:
    return disk.listdir(path) if disk.stat(path) is not None else []
