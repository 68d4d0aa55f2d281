"""Where everything lies that survives: $IMPROVE_HOME, by default ~/.improve."""

import fcntl
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

from schema.errors import HomeError, HomeLost, SettingsError

ROOM_NEEDED = 200 * 2**20
SECRET_BYTES = 32
SERVER_TOKEN = "server.token"  # noqa: S105 - its name
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def home() -> Path:
    """Raises HomeError where neither IMPROVE_HOME nor the system says where it is."""
    try:
        return Path(os.environ.get("IMPROVE_HOME") or Path.home() / ".improve").expanduser().absolute()
    except RuntimeError:  # HOME is not set, and this user is in no list of users
        raise HomeError(
            "You have no home directory to keep runs in. Say where they shall lie: export IMPROVE_HOME=/path/with/room"
        ) from None


def prepare_home() -> Path:
    """Create the home and prove that it can be written. Raises HomeError, which says what to do."""
    root = home()
    way_out = "Point IMPROVE_HOME at a folder that you can write: export IMPROVE_HOME=/path/with/room"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
    except OSError as error:
        raise HomeError(f"IMPROVE_HOME {root} cannot be written: {error.strerror}. {way_out}") from None
    free = shutil.disk_usage(root).free
    if free < ROOM_NEEDED:
        raise HomeError(
            f"IMPROVE_HOME {root} has {free // 2**20} MB free, and a run needs at least {ROOM_NEEDED // 2**20} MB. {way_out}"
        )
    return root


def split_secret_path() -> Path:
    return home() / "split.secret"


def split_secret() -> bytes:
    """Return the 32 random bytes that draw the splits of this home.

    They lie beside the prepared data sets, not in them: those may be deleted to make room, and the same images
    are then split as before. Raises HomeError.
    """
    rest = "new runs then get new splits, and runs from before go on with what was prepared for them."
    return _kept_secret(split_secret_path(), lambda: secrets.token_bytes(SECRET_BYTES), rest)


def server_token() -> str:
    """Return what a request to the server of this home has to carry: 32 letters, digits and dashes. Raises HomeError."""
    path, rest = home() / SERVER_TOKEN, "the server then has a new token, and addresses from before no longer work."
    return _kept_secret(path, lambda: secrets.token_urlsafe(24).encode(), rest).decode("ascii", errors="replace")


def _kept_secret(path: Path, make: Callable[[], bytes], rest: str) -> bytes:
    """Read SECRET_BYTES that only this user may read, and make them if there are none. Raises HomeError: a short one protects nothing."""
    prepare_home()
    try:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # of two that begin at once, one makes it
            secret = file.read()
            if not secret:
                secret = make()
                file.write(secret)
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        raise HomeError(
            f"{path} cannot be read or written: {error.strerror}. Let yourself read it: chmod 600 {path}"
        ) from None
    if len(secret) != SECRET_BYTES:
        raise HomeError(
            f"{path} is damaged: it has {len(secret)} bytes, and {SECRET_BYTES} are expected. Restore it from a copy, or delete it: {rest}"
        )
    return secret


def runs_dir() -> Path:
    return home() / "runs"


def run_dir(name: str) -> Path:
    return runs_dir() / name


def datasets_dir() -> Path:
    return home() / "datasets"


def unpacked_dir() -> Path:
    return home() / "unpacked"


def check_not_lost(name: str) -> None:
    """Of a run that is under way nothing is made anew where somebody has deleted it: half a home would look like a whole one. Raises HomeLost."""
    if not home().is_dir():
        raise HomeLost(
            f"IMPROVE_HOME {home()} was deleted while run {name!r} was going on, and what it had with it. "
            "Nothing can be resumed from it: restore it from a copy, or begin a new run."
        )
    if not run_dir(name).is_dir():
        raise HomeLost(
            f"The folder of run {name!r}, {run_dir(name)}, was deleted while it was going on, its trainings and weights with it. "
            "It cannot go on: restore the folder from a copy, or begin a new run under another --name."
        )


def checkpoints_path() -> Path:
    return home() / "checkpoints.sqlite"


def prices_path() -> Path:
    """What language models cost, where the person says otherwise than we do (docs/models.md)."""
    return home() / "prices.toml"


def experiments_path() -> Path:
    return home() / "experiments.sqlite"


def experiments_url() -> str:
    return f"sqlite:///{experiments_path()}"


def bytes_on_disk(path: Path) -> int:
    """Of a data base file with its journal, or of all files in a folder. What vanishes meanwhile counts nothing."""
    files = path.rglob("*") if path.is_dir() else (path.with_name(path.name + end) for end in ("", "-wal", "-shm"))
    total = 0
    for file in files:
        with suppress(OSError):
            found = file.lstat()
            total += found.st_size if S_ISREG(found.st_mode) else 0
    return total


def valid_run_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise SettingsError(
            f"--name {name!r}: a run's name has 1 to 64 letters, digits, dots, dashes or underscores, and begins with a letter or digit."
        )
    return name


def fresh_name(source: str, known: Iterable[str]) -> str:
    """A free run name after the data: `photos`, `photos-2`, ... `known` are those that the experiment store has."""
    stem = re.sub(r"\.(zip|npz|csv|tar|tgz|tar\.\w+)$", "", Path(source).name)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:48] or "run"
    taken = {*known, *(path.name for path in runs_dir().iterdir())} if runs_dir().is_dir() else set(known)
    return next(name for name in (stem, *(f"{stem}-{n}" for n in range(2, 10**6))) if name not in taken)
