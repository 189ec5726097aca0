"""A list of system calls that a decoder has no use for, refused with EPERM: a seccomp filter, written by hand because
the library for it is a C library that most machines lack. Runs in the decoder process.

It names what is refused and lets everything else pass: memory, clocks and reads differ between versions of libc, and a
list of what is needed would one day refuse them. What makes a descriptor is refused a second time by the limits.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_LOAD, _JUMP_EQUAL, _JUMP_FROM, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
"""Where they lie in what a filter sees (`struct seccomp_data`); of an argument the lower half."""
_X32 = 0x40000000
"""From here on the numbers of x86's third set of calls, which is refused whole."""

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CALLS: dict[str, tuple[int, int]] = {
    # sockets; what comes and goes on the one that is open stays allowed
    "socket": (41, 198), "connect": (42, 203), "accept": (43, 202), "sendmsg": (46, 211), "bind": (49, 200),
    "listen": (50, 201), "socketpair": (53, 199), "accept4": (288, 242), "sendmmsg": (307, 269),
    # programs and processes
    "clone": (56, 220), "clone3": (435, 435), "execve": (59, 221), "execveat": (322, 281), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440),
    "kcmp": (312, 272), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    # files
    "openat": (257, 56), "openat2": (437, 437), "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264),
    "truncate": (76, 45), "ftruncate": (77, 46), "mkdirat": (258, 34), "mknodat": (259, 33),
    "unlinkat": (263, 35), "linkat": (265, 37), "symlinkat": (266, 36), "renameat2": (316, 276),
    "fchmodat": (268, 53), "fchownat": (260, 54), "memfd_create": (319, 279), "ioctl": (16, 29),
    "splice": (275, 76), "vmsplice": (278, 75),
    # the system
    "chroot": (161, 51), "pivot_root": (155, 41), "mount": (165, 40), "umount2": (166, 39), "unshare": (272, 97),
    "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "keyctl": (250, 219),
    "add_key": (248, 217), "request_key": (249, 218), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "personality": (135, 92),
    # memory shared by name, and queues
    "shmget": (29, 194), "shmat": (30, 196), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180),
}  # fmt: skip
"""Numbers on x86_64 and aarch64."""
_ONLY_X86 = {
    "open": 2, "fork": 57, "vfork": 58, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86, "unlink": 87,
    "symlink": 88, "chmod": 90, "chown": 92, "mknod": 133, "renameat": 264,
}  # fmt: skip
_ONLY_AARCH64 = {"renameat": 38}
_SIGNALS = {"kill": (62, 129), "tgkill": (234, 131)}
"""Allowed towards the process itself: that is how it aborts."""


def refused_calls(machine: str) -> dict[str, int]:
    """Numbers by name on ``x86_64`` or ``aarch64``."""
    column = list(_ARCHITECTURES).index(machine)
    own = _ONLY_X86 if machine == "x86_64" else _ONLY_AARCH64
    return {**{name: numbers[column] for name, numbers in _CALLS.items()}, **own}


def signal_calls(machine: str) -> dict[str, int]:
    """Those that are refused unless their first argument is the process's own number."""
    column = list(_ARCHITECTURES).index(machine)
    return {name: numbers[column] for name, numbers in _SIGNALS.items()}


def program(machine: str, pid: int) -> bytes:
    """The filter for the process `pid`, as the kernel of `machine` reads it."""
    return b"".join(_instructions(machine, pid))


def _instructions(machine: str, pid: int) -> Iterator[bytes]:
    refused, signals = list(refused_calls(machine).values()), list(signal_calls(machine).values())
    num_left = len(refused) + len(signals)  # comparisons still to come

    yield _instruction(_LOAD, _ARCHITECTURE)
    yield _instruction(_JUMP_EQUAL, _ARCHITECTURES[machine], 1, 0)
    yield _instruction(_RETURN, _REFUSE)
    yield _instruction(_LOAD, _NUMBER)
    # allow, refuse, then the test of a signal's target stand behind the comparisons
    yield _instruction(_JUMP_FROM, _X32, num_left + 1, 0)
    for number in refused:
        num_left -= 1
        yield _instruction(_JUMP_EQUAL, number, num_left + 1, 0)
    for number in signals:
        num_left -= 1
        yield _instruction(_JUMP_EQUAL, number, num_left + 2, 0)
    yield _instruction(_RETURN, _ALLOW)
    yield _instruction(_RETURN, _REFUSE)
    yield _instruction(_LOAD, _FIRST_ARGUMENT)
    yield _instruction(_JUMP_EQUAL, pid, 0, 1)
    yield _instruction(_RETURN, _ALLOW)
    yield _instruction(_RETURN, _REFUSE)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install() -> None:
    """For this process, which must not gain privileges any more (`no_new_privs`), for good. Raises OSError."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no list of system calls for {machine}")
    content = program(machine, os.getpid())
    filters = _Program(len(content) // 8, content)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(filters), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
