"""The warm process as the supervisor holds it: started in its sandbox, asked for one child per step, thrown away when in doubt."""

import contextlib
import fcntl
import json
import os
import select
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from sandbox.environment import environment
from sandbox.isolation import cgroup, landlock, paths
from sandbox.isolation.launch import Place, end, launch, threads
from sandbox.isolation.removal import remove
from sandbox.output import Log
from sandbox.room import STEPS, Usage, new_directory, usage
from schema.job import Access, Card, Limit, Limits

START_SECONDS = 180.0  # a cold disk, a busy machine: importing torch has taken a minute
END_SECONDS = 10.0  # for the guard to end all that is below it
MOST_PRINTS = 1000  # files: with more than these a sandbox is not as it was
TMP, SHM = "/tmp", "/dev/shm"  # noqa: S108
OF_JOBS = "improve-job-"  # what the names of such directories begin with
LINK = "t"  # to the directory that a step has for /tmp, where there is no mount namespace
STALE_SECONDS = 60.0  # a directory that is younger may be about to be locked
SCM_CREDENTIALS = getattr(socket, "SCM_CREDENTIALS", -1)
Fingerprint = list[tuple[str, int]]


class SandboxFailed(Exception):
    """The sandbox could not be started, or is not one."""


class Child:
    """A step's process. `status` is its exit status, negative for a signal, None while it runs."""

    def __init__(self, channel: socket.socket, pid: int, log: Log, ended: bytes) -> None:
        self.pid = pid
        self._ended = ended
        self._channel = channel
        self._log = log

    def status(self, wait: float) -> int | None:
        if self._ended:
            self._log.drain()
            return int(self._ended)
        until = time.monotonic() + wait
        while True:
            left = max(0.0, until - time.monotonic())
            ready, _, _ = select.select([self._channel.fileno(), self._log.read_end], [], [], left)
            self._log.drain()
            if self._channel.fileno() in ready:
                answer = self._channel.recv(64)
                return int(answer) if answer else -9  # the warm process went down, and its child with it
            if time.monotonic() >= until:
                return None


class Zygote:
    """At most one warm process, opened for one `Access`."""

    def __init__(self, folder: Path, user: int | None) -> None:
        self.room = folder / "room"
        self.user = user  # that jobs run as, where we are root; None: as whoever we are
        self._folder = folder
        self._access: Access | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._inside = 0  # pid of the warm process, 0 until it has said that it is ready
        self._used = False
        self._since = 0.0  # when the current step began
        self._untouched: Fingerprint = []
        self._tmp: Path | None = None  # holds the directory that a step has for /tmp, and a link to it
        self._tmp_lock = -1
        self._group: Path | None = None  # cgroup v2, where one can be had
        self._refused: dict[Limit, int] = {}  # by the kernel, before the current step

    def open(self, access: Access) -> None:
        """Have a warm process for this, importing by itself; the one that there is where it fits. Raises SandboxFailed."""
        running = self._process is not None and self._process.poll() is None
        if running and access == self._access and self._is_untouched():
            return
        self.close()
        self._access = access
        absent = [path for path in access.read if not Path(path).exists()]
        if absent:
            raise SandboxFailed(f"{absent[0]} is not there, and the job needs it")
        ours, theirs = socket.socketpair()
        if sys.platform == "linux":
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        try:
            self._process = self._launch(theirs, access)
        finally:
            theirs.close()
        self._channel = ours

    def _launch(self, channel: socket.socket, access: Access) -> subprocess.Popen[bytes]:
        user, work = self._own_user, self.room / "work"
        if access.tier != "bwrap":
            self._tmp, self._tmp_lock = private_tmp(user)
        self._group = self._grouped()
        place = Place(self.room, self.room / STEPS, self._tmp or Path(TMP), self._folder / "canary", user, self._group)
        place.canary.write_text("what lies here is not for jobs", encoding="utf-8")
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        program = [sys.executable, "-P", "-m", "sandbox.warm"]
        with (self._folder / "warm.log").open("wb") as log:
            tmp = str(self._tmp / LINK if self._tmp else TMP)
            env = environment(work, cores, tmp, access.card.uuid if access.card else None)
            return launch(access, place, program, env, channel=channel.fileno(), log=log)

    def _grouped(self) -> Path | None:
        try:
            return cgroup.make(self._folder)
        except OSError as error:
            raise SandboxFailed(f"an earlier job is not over: {error}") from error

    @property
    def _own_user(self) -> int | None:
        """Whom jobs run as, where it is nobody else: without isolation they are whoever we are."""
        return None if self._access is None or self._access.tier == "none" else self.user

    @property
    def card(self) -> Card | None:
        return self._access.card if self._access else None

    def forget_files(self) -> None:
        """Between two steps of a job: /tmp and /dev/shm as they were, in a new sandbox where nothing else can make them so. Raises SandboxFailed."""
        if self._used and self._access and not self._has_no_new_files():
            access = self._access
            self.close()
            self.open(access)

    @contextlib.contextmanager
    def child(self, step: str, limits: Limits, log: Log, *, without: str | None = None) -> Iterator[Child]:
        """Fork one step's process, which cannot read what lies in `without`. Raises SandboxFailed where there is no warm process to fork."""
        if self._process is None or self._process.poll() is not None:
            assert self._access is not None
            self.open(self._access)
        self.ready()
        assert self._channel is not None
        readable = self._readable(without) if without else None
        request = {"step": step, "file_bytes": limits.disk_bytes, "read": readable, "write": self._writable()}
        self._refused = cgroup.refusals(self._group) if self._group else {}
        socket.send_fds(self._channel, [json.dumps(request).encode()], [log.write_end])
        message, sent_by = self._receive(60.0)
        self._used, self._since = True, time.time()
        told, _, rest = message.partition(b"\n")
        if not told.startswith(b"began "):
            raise SandboxFailed(f"the warm process did not begin the {step} step: {self._last_words()}")
        yield Child(self._channel, sent_by or int(told.split()[1]), log, rest)

    def _readable(self, without: str) -> list[str] | None:
        """All that a job is given, but for one directory; None where nothing can be taken from it."""
        if self._access is None or self._access.tier == "none" or not landlock.abi():
            return None
        gpu, given = self._access.gpu, [path for path in self._access.read if path != without]
        card = self._access.card.minor if self._access.card else None
        own_shm = self._access.tier == "bwrap" or Path(SHM).is_dir()
        scratch = [str(self._tmp or TMP), *([SHM] if own_shm else []), "/proc"]
        return [
            *paths.system(gpu=gpu),
            *paths.python(),
            str(self.room),
            *given,
            *scratch,
            *paths.devices(gpu=gpu, card=card),
        ]

    def _writable(self) -> list[str] | None:
        """What a step may write: its own directories, scratch and devices, and nothing of the steps before it; None if nothing can be taken from it."""
        access = self._access
        if access is None or access.tier == "none" or not landlock.abi():
            return None
        card = access.card.minor if access.card else None
        own_shm = access.tier == "bwrap" or Path(SHM).is_dir()
        scratch = [str(self._tmp / LINK if self._tmp else TMP), *([SHM] if own_shm else [])]
        return [str(self.room / "work"), *scratch, *paths.devices(gpu=access.gpu, card=card)]

    def ready(self) -> None:
        """Wait until it has imported everything. Raises SandboxFailed."""
        if not self._inside:
            message, pid = self._receive(START_SECONDS)
            if message != b"ready\n":
                raise SandboxFailed(self._last_words())
            self._inside = pid
            self._untouched = self._fingerprint()
            if self._group and self._access:
                limits = self._access.limits
                cgroup.limit(self._group, memory_bytes=limits.memory_bytes, threads=threads(limits))

    def refused(self) -> Limit | None:
        """The limit that the kernel has held this step back at, if it has."""
        now = cgroup.refusals(self._group) if self._group else {}
        return next((name for name, times in now.items() if times > self._refused.get(name, 0)), None)

    def _receive(self, seconds: float) -> tuple[bytes, int]:
        """What comes next, and the pid of who sent it as we see it."""
        assert self._channel is not None
        if not select.select([self._channel], [], [], seconds)[0]:
            return b"", 0
        message, ancillary, _, _ = self._channel.recvmsg(64, 64)
        sent_by = [int.from_bytes(data[:4], sys.byteorder) for _, kind, data in ancillary if kind == SCM_CREDENTIALS]
        return message, sent_by[0] if sent_by else 0

    def _last_words(self) -> str:
        text = (self._folder / "warm.log").read_text(encoding="utf-8", errors="replace").strip()
        return " ".join(text.split("\n")[-3:])[-600:] or "it ended without a word"

    def directories(self) -> list[Path]:
        """On disk, for jobs to write."""
        return [self.room / STEPS, *([self._tmp] if self._tmp else [])]

    def scratch(self) -> Usage:
        """Memory in the sandbox's own /tmp and /dev/shm; where they are the machine's, in what its user has made there since."""
        total = Usage()
        if self._access is None or not self._inside:
            return total
        if self._access.tier != "bwrap":
            for path in self._in_shared_memory():
                total += usage(path, self._access.limits.files)
            return total
        for place in ("tmp", "dev/shm"):
            with contextlib.suppress(OSError):
                told = os.statvfs(f"/proc/{self._inside}/root/{place}")
                total.bytes += (told.f_blocks - told.f_bfree) * told.f_frsize
                total.files += told.f_files - told.f_ffree
        return total

    def _in_shared_memory(self) -> Iterator[Path]:
        """What the job's user has put into the machine's since the step began; as root nobody but the job is this user."""
        user = self._own_user
        owner = os.getuid() if user is None else user
        with contextlib.suppress(OSError):
            for path in Path(SHM).iterdir():
                with contextlib.suppress(OSError):
                    told = path.lstat()
                    if told.st_uid == owner and (user is not None or told.st_ctime >= self._since):
                        yield path

    def _fingerprint(self) -> Fingerprint:
        """What lies in the job's /tmp and /dev/shm: names and inodes, without crossing into what is mounted there; and how these two are
        themselves, rights and dates included."""
        if self._access is None or self._access.tier != "bwrap":
            return []
        found: Fingerprint = []
        for place in ("tmp", "dev/shm"):
            top = f"/proc/{self._inside}/root/{place}"
            told = os.lstat(top)
            found += [
                (f"{place} {name}", getattr(told, f"st_{name}"))
                for name in ("mode", "uid", "gid", "mtime_ns", "nlink", "size")
            ]
            device, todo = told.st_dev, [top]
            while todo and len(found) <= MOST_PRINTS:  # not os.walk: a path that is long enough ends Python's recursion
                with os.scandir(todo.pop()) as entries:
                    for entry in entries:
                        told = entry.stat(follow_symlinks=False)
                        found.append((entry.path, told.st_ino))
                        todo += [entry.path] if stat.S_ISDIR(told.st_mode) and told.st_dev == device else []
        return sorted(found)

    def _is_untouched(self) -> bool:
        """Whether the job before has left nothing that the next could meet, and could not have changed the warm process."""
        if not self._used:
            return True
        if self._access and self._access.tier == "bwrap" and not landlock.abi():
            return False
        return self._has_no_new_files()

    def _has_no_new_files(self) -> bool:
        try:
            self._tidy()
            return self._fingerprint() == self._untouched
        except OSError:
            return False

    def _tidy(self) -> None:
        """Where /tmp and /dev/shm are the machine's: what jobs left there. Of shared memory only what nobody but a job can own."""
        if self._tmp:
            new_directory(self._tmp, self._tmp / LINK, self._own_user)
        if self._own_user is not None:
            for left in self._in_shared_memory():
                remove(left)

    def descendants(self) -> list[psutil.Process]:
        """Every process of the current step: below the warm process, or orphaned to us or to the guard."""
        own = {self._inside, *self._ours()}
        try:
            below = psutil.Process().children(recursive=True)
        except psutil.Error:
            return []
        found = []
        for process in below:
            with contextlib.suppress(psutil.Error):
                if process.pid not in own and not has_ended(process):
                    found.append(process)
        return found

    def _ours(self) -> set[int]:
        """The processes between us and the warm one: bubblewrap's two, or the guard."""
        found = set()
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self._inside) if self._inside else None
            while process and process.pid != os.getpid():
                found.add(process.pid)
                process = process.parent()
        return found | ({self._process.pid} if self._process else set())

    def end_step(self) -> bool:
        """Kill whatever is left of the step, and collect what came to us; whether there was anything left."""
        left = self.descendants()
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        for process in psutil.Process().children():
            if self._process is None or process.pid != self._process.pid:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(process.pid, os.WNOHANG)
        return bool(left)

    def close(self) -> None:
        """End the warm process and everything below it: with a control group or bubblewrap the kernel does it at one blow, else the guard."""
        if self._group:
            cgroup.kill(self._group)
        if self._process:
            if self._access and self._access.tier == "bwrap":
                end(self._process)
            else:
                self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_SECONDS)
            end(self._process)
            self._process.wait()
            self.end_step()
        if self._channel:
            self._channel.close()
        if self._group:
            with contextlib.suppress(OSError):  # what does not end now is told when the next one is opened
                cgroup.end(self._group)
        with contextlib.suppress(OSError):
            self._tidy()
            if self._tmp:
                remove(self._tmp)
        if self._tmp_lock >= 0:
            os.close(self._tmp_lock)
        self._tmp_lock = -1
        self._process = self._channel = self._tmp = self._group = None
        self._inside, self._used = 0, False


def has_ended(process: psutil.Process) -> bool:
    """A process whose first thread has ended looks like one that has, whatever its other threads do."""
    if process.status() != psutil.STATUS_ZOMBIE:
        return False
    with contextlib.suppress(OSError):
        return len(os.listdir(f"/proc/{process.pid}/task")) <= 1  # noqa: PTH208
    return True


def private_tmp(user: int | None) -> tuple[Path, int]:
    """Without a mount namespace: a directory with a short name, because the path of a socket has to fit 108 bytes; locked for as long as
    the descriptor is open."""
    made = Path(tempfile.mkdtemp(prefix=OF_JOBS, dir=_short_tmp()))
    lock = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if user is not None:
        made.chmod(0o711)
    new_directory(made, made / LINK, user)
    return made, lock


def _short_tmp() -> Path:
    return Path(TMP) if Path(TMP).is_dir() else Path(tempfile.gettempdir())


def sweep(user: int | None) -> None:
    """Remove what jobs of supervisors that were killed have left: their /tmp, and as root all of `user` in shared memory."""
    for left in _short_tmp().glob(f"{OF_JOBS}*"):
        with contextlib.suppress(OSError):
            lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                told = os.fstat(lock)
                if told.st_uid == os.getuid() and time.time() - told.st_ctime > STALE_SECONDS:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    remove(left)
            finally:
                os.close(lock)
    for left in Path(SHM).iterdir() if user is not None and Path(SHM).is_dir() else []:
        with contextlib.suppress(OSError):
            if left.lstat().st_uid == user:
                remove(left)
