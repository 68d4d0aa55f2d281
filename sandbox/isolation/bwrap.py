"""The command line of bubblewrap: namespaces of its own, and a file system in which nothing exists that was not given.

Learned the hard way (measured before this was written): its default / and /dev are writable; missing parents are made 0700, which
nobody but root can enter; and nothing may be mounted below a directory that a script can write (CVE-2026-87766).
"""

import errno
import shutil
import stat
from pathlib import Path

from sandbox.isolation.paths import SYSTEM, outermost

OWN = ("/tmp", "/dev", "/proc")  # noqa: S108 - made by bubblewrap


def program() -> str | None:
    """The system's own, never a setuid one: that mode is gone upstream, with a hole in it (CVE-2026-41163)."""
    found = shutil.which("bwrap")
    return found if found and not Path(found).stat().st_mode & stat.S_ISUID else None


def command(
    read: list[str],
    write: list[str],
    devices: list[str],
    *,
    root: bool,
    keep: list[str],
    shm_bytes: int,
    tmp_bytes: int,
) -> list[str]:
    """Up to and with the `--`. `write` are directories that a job may write; `keep` the capabilities that root needs until it has dropped its own.

    Raises FileNotFoundError where there is no bubblewrap.
    """
    found = program()
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "bubblewrap is not installed (any more)", "bwrap")
    made: set[str] = set()
    mounts = [*_system(read), "--proc", "/proc", "--dev", "/dev"]
    mounts += ["--size", str(shm_bytes), "--perms", "1777", "--tmpfs", "/dev/shm"]  # noqa: S108
    mounts += ["--size", str(tmp_bytes), "--perms", "1777", "--tmpfs", "/tmp"]  # noqa: S108
    for device in devices:
        mounts += ["--dev-bind", device, device]
    for path in outermost([path for path in read if not _below(path, SYSTEM)]):
        mounts += [*_parents(path, made), "--ro-bind", path, path]
    for path in write:
        mounts += [*_parents(path, made), "--bind", path, path]
    return [
        found,
        *("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
        *("--die-with-parent", "--new-session", "--hostname", "sandbox", "--cap-drop", "ALL"),
        *([item for name in keep for item in ("--cap-add", name)] if root else ["--unshare-user", "--disable-userns"]),
        *mounts,
        *("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/", "--"),
    ]


def _system(read: list[str]) -> list[str]:
    arguments: list[str] = []
    for path in SYSTEM:
        if path in read:
            link = str(Path(path).readlink()) if Path(path).is_symlink() else None
            arguments += ["--symlink", link, path] if link else ["--ro-bind", path, path]
    return arguments


def _parents(path: str, made: set[str]) -> list[str]:
    missing = [str(parent) for parent in reversed(Path(path).parents)][1:]
    missing = [parent for parent in missing if parent not in {*OWN, *made}]
    made.update(missing)
    return [item for parent in missing for item in ("--perms", "0755", "--dir", parent)]


def _below(path: str, directories: tuple[str, ...]) -> bool:
    return any(path == directory or path.startswith(directory + "/") for directory in directories)
