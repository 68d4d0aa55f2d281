"""Which isolation works here: found by starting a program in it that tries to get out, never by looking for files."""

import contextlib
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from sandbox.isolation import bwrap, landlock
from sandbox.isolation.launch import Place, end, launch
from sandbox.isolation.own_folder import own_folder
from schema.errors import SettingsError
from schema.job import Access, Card, Limits
from schema.settings import Tier

ISOLATED: tuple[Tier, ...] = ("bwrap", "landlock")  # best first
PROBE_SECONDS = 30.0
MOST_ANSWERED = 2**16  # bytes
PROBE_USER = 61183  # next to those of jobs (sandbox/isolation/users.py)
NONE = "generated code runs as you: its environment is scrubbed and its limits are kept, but it can read your files and use the network"
APPARMOR = (
    r"printf 'abi <abi/4.0>,\ninclude <tunables/global>\nprofile bwrap /usr/bin/bwrap flags=(unconfined) {\n  userns,\n}\n' "
    "| sudo tee /etc/apparmor.d/bwrap && sudo apparmor_parser -r /etc/apparmor.d/bwrap"
)
# Runs inside: which of the ways out are open? Standard library only.
_TRY = """
import json, os, socket, sys
given, secret, outside, port, prober, began = sys.argv[1:]
def prober_is_seen():
    return open(f"/proc/{prober}/stat").read().rpartition(")")[2].split()[19] == began
def opens(what):
    try:
        what()
    except OSError:
        return False
    return True
json.dump({
    "reads what it was given": opens(lambda: open(given).read()),
    "writes its work": opens(lambda: open("work/mine", "w").write("x")),
    "reads other files": opens(lambda: open(secret).read()),
    "writes other files": opens(lambda: open(outside, "w")),
    "reaches the network": opens(lambda: socket.create_connection(("127.0.0.1", int(port)), 2)),
    "looks into other processes": opens(prober_is_seen) and opens(lambda: open(f"/proc/{prober}/environ").read(1)),
    "signals other processes": opens(prober_is_seen) and opens(lambda: os.kill(int(prober), 0)),
}, os.fdopen(3, "w"))
"""
NEEDED = {"reads what it was given", "writes its work"}


class Finding(NamedTuple):
    tier: Tier
    works: bool
    text: str  # what is open in it, or why it does not work
    remedy: str = ""  # a line to type


def survey(folder: Path, card: Card | None = None) -> list[Finding]:
    """Every isolated tier, best first, each tried in a temporary directory beside what it must not be able to read."""
    return [probe(tier, folder, card) for tier in ISOLATED]


def choose(wanted: Tier | Literal["auto"], folder: Path, card: Card | None = None) -> Tier:
    """The tier to use: `wanted` if it works, or (auto) the best that does; opened for this GPU where jobs will have one.
    Raises SettingsError, which says what to type; never a weaker one."""
    return working(wanted, folder, card)[0]


def working(wanted: Tier | Literal["auto"], folder: Path, card: Card | None = None) -> list[Tier]:
    """All tiers that `choose` may take, best first; at least one. Raises SettingsError."""
    if wanted == "none":
        return [wanted]
    found = survey(folder, card) if wanted == "auto" else [probe(wanted, folder, card)]
    good = [finding.tier for finding in found if finding.works]
    if good:
        return good
    reasons = " ".join(f"{finding.tier}: {finding.text}. {finding.remedy}".strip() for finding in found)
    raise SettingsError(
        f"No sandbox for generated code works here. {reasons} Or, without isolation ({NONE}): --sandbox none"
    )


def probe(tier: Tier, folder: Path, card: Card | None = None) -> Finding:
    missing = _missing(tier)
    if missing:
        return missing
    with furnished(folder) as place, socket.create_server(("127.0.0.1", 0)) as server:
        access = Access(
            tier=tier,
            read=(),
            gpu=card is not None,
            card=card,
            limits=Limits(train_seconds=PROBE_SECONDS, memory_bytes=2**28, disk_bytes=2**20),
        )
        try:
            seen, words = _try(access, place, server.getsockname()[1])
        except OSError as error:
            seen, words = {}, str(error)
    failed = sorted(NEEDED - {name for name, possible in seen.items() if possible})
    leaks = sorted(name for name, possible in seen.items() if possible and name not in NEEDED)
    if not seen:
        return Finding(tier, False, f"it does not start here ({words})", _remedy(tier, words))
    if failed or leaks:
        text = " and ".join([*(f"a job {leak}" for leak in leaks), *(f"no job {thing}" for thing in failed)])
        return Finding(tier, False, f"it starts, but {text}")
    return Finding(tier, True, _open_in(tier))


def _missing(tier: Tier) -> Finding | None:
    """What can be told without trying."""
    if sys.platform != "linux":
        return Finding(
            tier,
            False,
            f"it needs Linux, and this is {platform.system()}",
            "Use a Linux machine, WSL 2 or a container.",
        )
    if platform.machine() not in {"x86_64", "aarch64"}:
        return Finding(tier, False, f"it is made for x86_64 and aarch64, and this is {platform.machine()}")
    if tier == "bwrap" and bwrap.program() is None:
        return Finding(tier, False, "bubblewrap (without setuid) is not installed", _install())
    if tier == "landlock" and not landlock.abi():
        text = f"the kernel {platform.release()} has no Landlock (5.13 or newer has, unless it is switched off or a container forbids it)"
        return Finding(tier, False, text, "Add landlock to the kernel's lsm= parameter, or install bubblewrap.")
    return None


@contextlib.contextmanager
def furnished(folder: Path) -> Iterator[Place]:
    """A place in `folder` to run a program of ours in, as a job would run; gone when it is over."""
    with own_folder(folder, "probe-") as top:
        user = PROBE_USER if os.getuid() == 0 else None
        room = top / "room"
        place = Place(room, room / "work", room / "work", top / "canary", user)
        top.chmod(0o755)
        place.work.mkdir(mode=0o755, parents=True)
        if user is not None:
            os.chown(place.work, user, user)
        (room / "given").write_text("given", encoding="utf-8")
        place.canary.write_text("secret", encoding="utf-8")
        place.canary.chmod(0o666)
        yield place


def ask(access: Access, place: Place, program: list[str], env: dict[str, str], seconds: float) -> tuple[bytes, str]:
    """Run a program in a sandbox; return what it wrote to descriptor 3, and its last words. Raises OSError."""
    ours, theirs = socket.socketpair()
    with ours, tempfile.TemporaryFile() as log:
        with theirs:
            process = launch(access, place, program, env, channel=theirs.fileno(), log=log)
        until, answer = time.monotonic() + seconds, b""
        try:
            while len(answer) < MOST_ANSWERED:
                ours.settimeout(max(0.01, until - time.monotonic()))
                more = ours.recv(4096)
                if not more:
                    break
                answer += more
            process.wait(max(0.01, until - time.monotonic()))
        except (TimeoutError, subprocess.TimeoutExpired):
            answer = b""
        finally:
            end(process)
            process.wait()
        log.seek(0)
        words = log.read().decode(errors="replace").strip().split("\n")[-1][-200:]
    return answer, words


def _try(access: Access, place: Place, port: int) -> tuple[dict[str, bool], str]:
    """What is possible inside, and the last words where nothing came back."""
    paths = [str(place.room / "given"), str(place.canary), str(place.canary.parent / "outside")]
    program = [os.path.realpath(sys.executable), "-I", "-S", "-c", _TRY, *paths, str(port), str(os.getpid()), _began()]
    answer, words = ask(access, place, program, {"PATH": "/usr/bin:/bin"}, PROBE_SECONDS)
    return (json.loads(answer) if answer else {}), words or "without a word"


def _began() -> str:
    """When we started, in ticks: with the pid, who we are."""
    return Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]


def _open_in(tier: Tier) -> str:
    """What a job can still reach in a tier that works (docs/security.md)."""
    abi = landlock.abi()
    if tier == "bwrap":
        return "a file system, processes and a network of its own" + (f", with Landlock {abi} inside" if abi else "")
    still = ["shared memory of your other programs", "command lines of other processes"]
    still += ["sockets of your other programs that have a path"] if abi < 9 else []
    still += ["abstract sockets"] if abi < 6 else []
    return f"Landlock {abi}; open in it: {', '.join(still)}"


def _remedy(tier: Tier, words: str) -> str:
    if tier != "bwrap":
        return ""
    if _setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return f"AppArmor forbids it; allow it once: {APPARMOR}"
    if _setting("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        return "Allow it once: sudo sysctl -w kernel.unprivileged_userns_clone=1"
    if _setting("/proc/sys/user/max_user_namespaces") == "0":
        return "Allow it once: sudo sysctl -w user.max_user_namespaces=15000"
    if "unknown option" in words.lower():
        return f"It is too old (0.8 or newer is needed): {_install()}"
    return "Containers forbid namespaces unless they are started with --security-opt seccomp=unconfined --security-opt apparmor=unconfined."


def _install() -> str:
    try:
        known = " ".join(platform.freedesktop_os_release().get(key, "") for key in ("ID", "ID_LIKE"))
    except OSError:
        known = ""
    ways = {"debian": "apt-get install", "ubuntu": "apt-get install", "fedora": "dnf install", "rhel": "dnf install", "suse": "zypper install", "arch": "pacman -S", "alpine": "apk add"}  # fmt: skip
    way = next((way for name, way in ways.items() if name in known), "apt-get install")
    return f"Install it: {'' if os.getuid() == 0 else 'sudo '}{way} bubblewrap"


def _setting(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""
