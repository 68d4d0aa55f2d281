"""seccomp: system calls that a training has no use for, and that lead out, are refused. A list of what is denied, for x86_64 and aarch64.

A list of what is allowed would be stricter, but CUDA, Triton and torch.compile break on it with every new version (docs/security.md).
"""

import ctypes
import errno
import os
import struct
from typing import NamedTuple

from sandbox.isolation.kernel import PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, prctl

# name: (x86_64, aarch64); None where the architecture has no such call.
Numbers = dict[str, tuple[int | None, int | None]]

# Look into other processes, load code into the kernel, reach its rarely tested corners, make namespaces, set clocks.
DENIED: Numbers = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "process_mrelease": (448, 448),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "move_mount": (429, 429),
    "open_tree": (428, 428), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "open_tree_attr": (467, 467), "unshare": (272, 97), "setns": (308, 268),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225),
    "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": (443, 443), "syslog": (103, 116),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171),
    "sethostname": (170, 161), "setdomainname": (171, 162),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262), "personality": (135, 92),
    "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None), "lookup_dcookie": (212, 18), "vhangup": (153, 58),
    # Memory that nobody who watches from outside can see, and that outlasts the process: without it nothing has to be counted.
    "memfd_secret": (447, 447),
    "shmget": (29, 194), "shmctl": (31, 195), "shmat": (30, 196), "msgget": (68, 186), "msgctl": (71, 187), "msgrcv": (70, 188), "msgsnd": (69, 189),
    "semget": (64, 190), "semctl": (66, 191), "semtimedop": (220, 192), "semop": (65, 193), "mq_open": (240, 180), "mq_unlink": (241, 181),
    # Counted by user, a hundred or so to each: a job would take them from the person's other programs.
    "inotify_init": (253, None), "inotify_init1": (294, 26),
    # Attributes and access lists of the work directory would outlive what lies in it.
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "removexattrat": (466, 466), "file_setattr": (469, 469),
    "nfsservctl": (180, 42), "uselib": (134, None), "ustat": (136, None), "sysfs": (139, None), "_sysctl": (156, None),
}  # fmt: skip

# Without namespaces of its own a job would share these with everything that the same user runs, and Landlock does not see them.
DENIED_WITHOUT_NAMESPACES: Numbers = {
    "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "mq_notify": (244, 184),
}  # fmt: skip
# These answer "done" and do nothing: shutil.copy sets modes and times, and may go on doing so on files that are not the job's.
PRETENDED_WITHOUT_NAMESPACES: Numbers = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
}  # fmt: skip
# The first argument names the process: allowed for oneself (0), else refused.
OWN_WITHOUT_NAMESPACES: Numbers = {
    "prlimit64": (302, 261), "sched_setscheduler": (144, 119), "sched_setparam": (142, 118), "sched_setattr": (314, 274),
}  # fmt: skip
# The first argument says what the second one names: a process (the value here), a group, or all that the user runs.
OWN_OF_A_KIND: dict[str, tuple[tuple[int | None, int | None], int]] = {
    "setpriority": ((141, 140), 0), "ioprio_set": ((251, 30), 1),
}  # fmt: skip
AFFINITY: tuple[int | None, int | None] = (203, 122)
SIGNALS: Numbers = {
    "kill": (62, 129), "tkill": (200, 130), "pidfd_send_signal": (424, 424), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
}  # fmt: skip

# What a program that only reads has no use for.
ALONE: Numbers = {
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None), "socket": (41, 198), "socketpair": (53, 199),
    "memfd_create": (319, 279),
}  # fmt: skip

CLONE, CLONE3, IOCTL, PRCTL, SOCKET, SOCKETPAIR, TGKILL, TRUNCATE, OPEN, OPENAT, OPENAT2, FCNTL, CLOSE_RANGE = (
    (56, 220), (435, 435), (16, 29), (157, 167), (41, 198), (53, 199), (234, 131), (76, 45), (2, None), (257, 56), (437, 437), (72, 25), (436, 436),
)  # fmt: skip
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH_*

ALLOW, KILL, ERROR = 0x7FFF0000, 0x80000000, 0x00050000
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = (
    0x20,
    0x15,
    0x35,
    0x45,
    0x06,
)  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, |JGE|, |JSET|, BPF_RET|K
NAMESPACES = 0x7E020080  # CLONE_NEWTIME and the seven others
CLONE_FILES, CLONE_THREAD, UNSHARE_FILES = 0x400, 0x10000, 2  # of clone, and of close_range
F_SETLEASE = 1024
F_SETOWN, F_SETSIG, F_SETOWN_EX, FIOSETOWN, SIOCSPGRP = (
    8,
    10,
    15,
    0x8901,
    0x8902,
)  # signals to whom one likes, when a file is ready
TIOCSTI, TIOCLINUX = 0x5412, 0x541C  # put characters into the terminal
# Flags of a file that outlive what lies in it, and that its owner may not take away: FS_IOC_SETFLAGS, FS_IOC_SETVERSION, FS_IOC_FSSETXATTR ...
FILE_FLAGS = (0x40086602, 0x40046602, 0x40087602, 0x40047602, 0x401C5820, 0x800C6613, 0x40806685)
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
SIGABRT, SIGCANCEL, SIGSETXID = 6, 32, 33


class Instruction(NamedTuple):
    code: int
    if_true: int
    if_false: int
    value: int


Program = list[Instruction]


def program(*, namespaces: bool, landlock: int, machine: str | None = None) -> bytes:
    """The filter for a job with or without namespaces of its own, where Landlock has this ABI. Raises OSError on an unknown architecture."""
    column, blocks = _begun(machine or os.uname().machine)

    def on(number: tuple[int | None, int | None], body: Program) -> None:
        """`body`, which always returns, for this system call."""
        if number[column] is not None:
            blocks.append([Instruction(EQUAL, 0, len(body), number[column] or 0), *body])

    denied = dict(DENIED)
    if not namespaces:
        denied |= DENIED_WITHOUT_NAMESPACES
        for number in PRETENDED_WITHOUT_NAMESPACES.values():
            on(number, _return(ERROR))
        for number in OWN_WITHOUT_NAMESPACES.values():
            on(number, _if_any(_argument(0), [0], _return(ALLOW), _refuse(errno.EPERM)))
        for number, a_process in OWN_OF_A_KIND.values():
            oneself = _if_any(_argument(1), [0], _return(ALLOW), _refuse(errno.EPERM))
            on(number, _if_any(_argument(0), [a_process], oneself, _refuse(errno.EPERM)))
        on(AFFINITY, _if_any(_argument(0), [0], _return(ALLOW), _return(ERROR)))
    if (
        not namespaces and landlock < 6
    ):  # Landlock does not hold signals back: only what libc sends to its own threads goes
        denied |= SIGNALS
        on(TGKILL, _if_any(_argument(2), [0, SIGABRT, SIGCANCEL, SIGSETXID], _return(ALLOW), _refuse(errno.EPERM)))
    if not namespaces and landlock < 3:  # Landlock does not see truncation
        denied["truncate"] = TRUNCATE
        on(OPENAT2, _refuse(errno.ENOSYS))  # its flags lie behind a pointer
        on(OPEN, _if_bits(_argument(1), os.O_TRUNC, _no_truncation(1), _return(ALLOW)))
        on(OPENAT, _if_bits(_argument(2), os.O_TRUNC, _no_truncation(2), _return(ALLOW)))
    for number in denied.values():
        on(number, _refuse(errno.EPERM))
    on(CLONE3, _refuse(errno.ENOSYS))  # its flags lie behind a pointer; libc goes back to clone
    # A thread with files of its own would hold them where the watch does not look.
    own_files = _if_bits(_argument(0), CLONE_FILES, _return(ALLOW), _refuse(errno.EPERM))
    threads = _if_bits(_argument(0), CLONE_THREAD, own_files, _return(ALLOW))
    on(CLONE, _if_bits(_argument(0), NAMESPACES, _refuse(errno.EPERM), threads))
    on(CLOSE_RANGE, _if_bits(_argument(2), UNSHARE_FILES, _refuse(errno.EPERM), _return(ALLOW)))
    # Whoever opens a file on which its owner has a lease waits for most of a minute: the data are the owner's, and other jobs read them.
    signalling = [] if namespaces else [F_SETOWN, F_SETSIG, F_SETOWN_EX]
    on(FCNTL, _if_any(_argument(1), [F_SETLEASE, *signalling], _refuse(errno.EPERM), _return(ALLOW)))
    controls = [TIOCSTI, TIOCLINUX, *FILE_FLAGS, *([] if namespaces else [FIOSETOWN, SIOCSPGRP])]
    on(IOCTL, _if_any(_argument(1), controls, _refuse(errno.EPERM), _return(ALLOW)))
    # A process that is not dumpable hides its memory and files from whoever measures them.
    on(PRCTL, _if_any(_argument(0), [4], _refuse(errno.EPERM), _return(ALLOW)))
    families = [AF_UNIX, AF_INET, AF_INET6, AF_NETLINK] if namespaces else [AF_UNIX]
    on(SOCKET, _if_any(_argument(0), families, _return(ALLOW), _refuse(errno.EPERM)))
    on(SOCKETPAIR, _if_any(_argument(0), [AF_UNIX], _return(ALLOW), _refuse(errno.EPERM)))
    blocks.append(_return(ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for block in blocks for instruction in block)


def alone(machine: str | None = None) -> bytes:
    """A second filter, for a program of ours that reads what strangers made: no other program, no other process and no socket. Threads are
    allowed, since decoders start some. Raises OSError on an unknown architecture."""
    column, blocks = _begun(machine or os.uname().machine)
    thread = _if_bits(_argument(0), CLONE_THREAD, _return(ALLOW), _refuse(errno.EPERM))
    bodies = [
        *((number, _refuse(errno.EPERM)) for number in ALONE.values()),
        (CLONE3, _refuse(errno.ENOSYS)),
        (CLONE, thread),
    ]
    for number, body in bodies:
        if number[column] is not None:
            blocks.append([Instruction(EQUAL, 0, len(body), number[column] or 0), *body])
    blocks.append(_return(ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for block in blocks for instruction in block)


def apply(filters: bytes) -> None:
    """For this thread and all that it starts, for good. Raises OSError."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    buffer = ctypes.create_string_buffer(filters, len(filters))
    described = ctypes.create_string_buffer(struct.pack("=H6xQ", len(filters) // 8, ctypes.addressof(buffer)))
    prctl(PR_SET_SECCOMP, 2, ctypes.addressof(described))


def _begun(machine: str) -> tuple[int, list[Program]]:
    """The column of the tables for an architecture, and what comes first: a call of another one ends the process."""
    if machine not in MACHINES:
        raise OSError(errno.ENOSYS, f"no system call table for {machine}; there are: {', '.join(MACHINES)}")
    column, audit = MACHINES[machine]
    blocks = [_load(4), [Instruction(EQUAL, 1, 0, audit)], _return(KILL), _load(0)]
    if machine == "x86_64":
        blocks += [[Instruction(AT_LEAST, 0, 1, 0x40000000)], _refuse(errno.ENOSYS)]  # the x32 calls
    return column, blocks


def _load(offset: int) -> Program:
    return [Instruction(LOAD, 0, 0, offset)]


def _argument(index: int) -> Program:
    """The lower half of an argument: what the kernel itself looks at in an int."""
    return _load(16 + 8 * index)


def _return(value: int) -> Program:
    return [Instruction(RETURN, 0, 0, value)]


def _refuse(code: int) -> Program:
    return _return(ERROR | code)


def _if_any(load: Program, values: list[int], yes: Program, no: Program) -> Program:
    """`no` stands first, so that each comparison jumps over what is left of them and over `no`."""
    tests = [Instruction(EQUAL, len(values) - 1 - i + len(no), 0, value) for i, value in enumerate(values)]
    return [*load, *tests, *no, *yes]


def _if_bits(load: Program, mask: int, yes: Program, no: Program) -> Program:
    return [*load, Instruction(ANY_BIT, len(no), 0, mask), *no, *yes]


def _no_truncation(flags: int) -> Program:
    """O_TRUNC needs the right to write, except with O_RDONLY: Landlock then lets it pass."""
    return _if_bits(_argument(flags), os.O_WRONLY | os.O_RDWR, _return(ALLOW), _refuse(errno.EPERM))
