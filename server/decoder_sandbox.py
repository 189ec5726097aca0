"""What a decoder gives up before it sees the first byte of a stranger: rights, network, files, processes, memory.

Runs in the decoder process, after everything is imported. Each measure stands by itself, so that a platform without
one of them still has the others; none is ever a reason not to serve.
"""

from __future__ import annotations

import ctypes
import os
import resource
import stat
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

from pool.forkserver import die_with_parent
from server import decoder_landlock, decoder_seccomp

NOBODY = 65534
SPARE_DESCRIPTORS = 4
"""That the worker opens once the model is loaded: the slab and what it waits with. Then there are none."""
LOG_ALLOWANCE = 16 * 2**20
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_CLONE_NEWNET = 0x40000000
_CAPABILITY_VERSION = 0x20080522
_CAP_KILL, _CAP_SETGID, _CAP_SETUID = 5, 6, 7

Measures = Mapping[str, Callable[[], None]]


def measures(max_bytes: int) -> Measures:
    """By name, in the order in which they have to be taken. `max_bytes`: of address space beyond what is there now."""
    return {
        "limits": lambda: _limit(max_bytes),
        "no_new_privs": _gain_no_privileges,
        "network_namespace": _leave_network,
        "nobody": _become_nobody,
        "no_capabilities": _drop_capabilities,
        "no_dump": _be_undumpable,
        "landlock": decoder_landlock.restrict,
        "seccomp": decoder_seccomp.install,
    }


def enter(max_bytes: int) -> dict[str, str]:
    """Take every measure there is, for good. By name the reason why it could not be taken, empty where it was."""
    outcomes = {}
    for name, measure in measures(max_bytes).items():
        try:
            measure()
        except OSError as error:
            outcomes[name] = error.strerror or str(error)
        else:
            outcomes[name] = ""
    return outcomes


def forbid_descriptors() -> None:
    """No file, socket or pipe can be opened any more, whatever else might allow it."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def describe(outcomes: Mapping[str, str]) -> str:
    """One line for operators."""
    taken = [name for name, reason in outcomes.items() if not reason]
    missing = [f"{name} ({reason})" for name, reason in outcomes.items() if reason]
    return ", ".join(taken or ["nothing"]) + (f"; not available: {', '.join(missing)}" if missing else "")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _gain_no_privileges() -> None:
    _check(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def _leave_network() -> None:
    _check(_libc().unshare(_CLONE_NEWNET))


def _become_nobody() -> None:
    """Where this is root and the front may still end a process of another user's."""
    needed = 1 << _CAP_KILL | 1 << _CAP_SETGID | 1 << _CAP_SETUID
    if os.geteuid() != 0:
        raise PermissionError(None, "not root")
    if _capabilities() & needed != needed:
        raise PermissionError(None, "a root that may not change its user or end others' processes")
    parent = os.getppid()
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    die_with_parent(parent)  # the kernel forgets that wish with the user


def _capabilities() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("CapEff:")), 16)


def _drop_capabilities() -> None:
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    _check(_libc().capset(header, bytes(24)))


def _be_undumpable() -> None:
    _check(_libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))


def _limit(max_bytes: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    descriptors = [int(path.name) for path in Path("/proc/self/fd").iterdir()]
    limits = {
        resource.RLIMIT_AS: pages * resource.getpagesize() + max_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: _log_size(),
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_NOFILE: max(descriptors) + 1 + SPARE_DESCRIPTORS,
    }
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, limit))


def _log_size() -> int:
    """0, but where the log is a file it has to take what is said of a crash."""
    status = os.fstat(2)
    return status.st_size + LOG_ALLOWANCE if stat.S_ISREG(status.st_mode) else 0
