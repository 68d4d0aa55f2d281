"""The system calls that Python has no name for. Standard library only: this runs before anything of the environment is imported."""

import ctypes
import errno
import os

PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 8, 22, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 36, 38, 47
PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_CLEAR_ALL = 2, 4
CAP_DAC_READ_SEARCH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, argument: int = 0, address: int = 0) -> int:
    """Raises OSError."""
    zero = ctypes.c_ulong(0)
    answer = int(_libc.prctl(ctypes.c_int(option), ctypes.c_ulong(argument), ctypes.c_ulong(address), zero, zero))
    if answer < 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {argument}): {os.strerror(ctypes.get_errno())}")
    return answer


def syscall(number: int, *arguments: object) -> int:
    """Raises OSError."""
    answer = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if answer < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"system call {number}: {os.strerror(code)}")
    return answer


def become(user: int, keep: list[int]) -> None:
    """From root to an ordinary user without any right but `keep`, which whatever it starts has, too. Raises OSError."""
    for capability in range(64):
        if capability not in keep:
            try:
                prctl(PR_CAPBSET_DROP, capability)
            except OSError as error:
                if error.errno == errno.EINVAL:
                    break  # one past the last that this kernel knows
                raise
    prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    _set_capabilities(keep)
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in keep:
        _ambient(capability)


def _set_capabilities(keep: list[int]) -> None:
    """Effective, permitted and inheritable: these and no other."""
    masks = [sum(1 << bit - 32 * half for bit in keep if bit // 32 == half) for half in (0, 1)]
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    data = (ctypes.c_uint32 * 6)(masks[0], masks[0], masks[0], masks[1], masks[1], masks[1])
    syscall(_CAPSET[os.uname().machine], header, data)


def _ambient(capability: int) -> None:
    zero = ctypes.c_ulong(0)
    if _libc.prctl(PR_CAP_AMBIENT, ctypes.c_ulong(PR_CAP_AMBIENT_RAISE), ctypes.c_ulong(capability), zero, zero) < 0:
        raise OSError(ctypes.get_errno(), f"keeping capability {capability}: {os.strerror(ctypes.get_errno())}")


_CAPSET = {"x86_64": 126, "aarch64": 91}
