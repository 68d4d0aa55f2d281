"""Landlock: a process gives up, for itself and all it starts, every file that is not named. No privileges needed (kernel 5.13 or newer).

Numbers are those of linux/landlock.h; https://docs.kernel.org/userspace-api/landlock.html says what each ABI adds.
"""

import ctypes
import errno
import os
import stat
import struct
import sys
from collections.abc import Iterable

from sandbox.isolation.kernel import PR_SET_NO_NEW_PRIVS, prctl, syscall

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = (1 << bit for bit in range(6, 13))
REFER, TRUNCATE, IOCTL_DEV, RESOLVE_UNIX = (1 << bit for bit in range(13, 17))
ABI_OF = {REFER: 2, TRUNCATE: 3, IOCTL_DEV: 5, RESOLVE_UNIX: 9}  # the others are in the first
KNOWN = (1 << 17) - 1

READ = EXECUTE | READ_FILE | READ_DIR
WRITE = KNOWN & ~(MAKE_CHAR | MAKE_BLOCK | IOCTL_DEV)
CHANGES = WRITE & ~(EXECUTE | READ_FILE | READ_DIR | RESOLVE_UNIX)
DEVICE = READ_FILE | WRITE_FILE | IOCTL_DEV | TRUNCATE
OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV | RESOLVE_UNIX

EMULATED = "IMPROVE_LANDLOCK_ABI"
NET_BIND_TCP, NET_CONNECT_TCP = 1, 2
SCOPE_ABSTRACT_UNIX, SCOPE_SIGNAL = 1, 2


def abi() -> int:
    """The kernel's Landlock version; 0 if it has none, or if it is switched off. IMPROVE_LANDLOCK_ABI lowers it, to try what older kernels hold."""
    if sys.platform != "linux":
        return 0
    try:
        version = syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(1))
        return min(version, int(os.environ.get(EMULATED, version)))
    except OSError as error:
        if error.errno in {errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}:
            return 0
        raise


def restrict(rules: Iterable[tuple[str, int]], version: int, *, network: bool = False) -> None:
    """Leave this thread, and what it starts, `rules`: (path, accesses); and no signal or abstract socket beyond itself.

    `version` is the ABI to use, at most that of the kernel; `network` leaves TCP alone (a network namespace sees to it).
    Raises FileNotFoundError for a path that is not there: a rule that is silently left out would only show later.
    """
    handled = sum(bit for bit in _bits(KNOWN) if ABI_OF.get(bit, 1) <= version)
    tcp = NET_BIND_TCP | NET_CONNECT_TCP if version >= 4 and not network else 0
    scopes = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL if version >= 6 else 0
    size = 8 if version < 4 else 16 if version < 6 else 24
    attributes = struct.pack("QQQ", handled, tcp, scopes)[:size]
    ruleset = syscall(CREATE_RULESET, ctypes.c_char_p(attributes), ctypes.c_size_t(size), ctypes.c_uint(0))
    try:
        for path, accesses in rules:
            _allow(ruleset, path, accesses & handled)
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        syscall(RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0))
    finally:
        os.close(ruleset)


def seal(readable: list[str] | None = None, writable: list[str] | None = None) -> None:
    """Begin a domain below the one that we are in: its processes cannot trace or signal those above it, and of files read only what is
    `readable`, and write only what is `writable` (None: what they could before).

    Nothing where Landlock is not in use (ABI 6 for signals).
    """
    version = abi()
    if version:
        changes = sum(bit for bit in _bits(CHANGES) if ABI_OF.get(bit, 1) <= version)
        reads = 0 if readable is None else READ_FILE | READ_DIR
        handled = MAKE_BLOCK | reads | (0 if writable is None else changes)
        attributes = struct.pack("QQQ", handled, 0, SCOPE_SIGNAL if version >= 6 else 0)
        size = 24 if version >= 6 else 8
        ruleset = syscall(CREATE_RULESET, ctypes.c_char_p(attributes), ctypes.c_size_t(size), ctypes.c_uint(0))
        for path in readable or ():
            _allow(ruleset, path, READ_FILE | READ_DIR)
        for path in writable or ():
            _allow(ruleset, path, changes)
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        syscall(RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0))
        os.close(ruleset)


def _allow(ruleset: int, path: str, accesses: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            accesses &= OF_A_FILE
        rule = struct.pack("=Qi", accesses, descriptor)
        syscall(ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(1), ctypes.c_char_p(rule), ctypes.c_uint(0))
    finally:
        os.close(descriptor)


def _bits(mask: int) -> list[int]:
    return [1 << bit for bit in range(mask.bit_length()) if mask >> bit & 1]
