"""Removing what a job has left, however it has left it: paths too long for Python, directories without rights."""

import contextlib
import os
import subprocess
from pathlib import Path


def remove(path: Path) -> None:
    """Whatever it is, with all that is below it, as far as it can be."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            clear(path)
            path.rmdir()
        else:
            path.unlink()


def clear(directory: Path) -> None:
    """Remove everything in it. No process of a job is left to work against it. Raises OSError."""
    if not directory.is_dir() or directory.is_symlink():
        return
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        directory.chmod(0o700)
    command = ["find", ".", "-mindepth", "1", "-delete"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:  # directories that were made unreadable: they are ours, or we are root
        _open_up(directory)
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{directory} cannot be emptied: {done.stderr.strip()[:300]}")


def _open_up(directory: Path) -> None:
    subprocess.run(["chmod", "-R", "u+rwx", "."], cwd=directory, capture_output=True, check=False)
