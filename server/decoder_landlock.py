"""No file and no TCP port from here on, and no signal to anybody outside: Landlock, which needs no privilege.

Runs in the decoder process. Descriptors that are open already stay usable.
"""

from __future__ import annotations

import ctypes
import os
import struct

_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_ASK_VERSION = 1
_FIRST_RIGHTS = 13
"""Rights to files in the first version; the second, third and fifth have one more each."""
_ALL_TCP, _ALL_SCOPES = 0b11, 0b11


def ruleset(version: int) -> bytes:
    """Everything that the kernel's `version` can forbid, with no exception."""
    num_rights = _FIRST_RIGHTS + (version >= 2) + (version >= 3) + (version >= 5)
    fields = [(1 << num_rights) - 1]
    fields += [_ALL_TCP] if version >= 4 else []
    fields += [_ALL_SCOPES] if version >= 6 else []
    return struct.pack(f"{len(fields)}Q", *fields)


def restrict() -> None:
    """This process, which must not gain privileges any more (`no_new_privs`), for good. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    version = _checked(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION))
    rules = ruleset(version)
    descriptor = _checked(libc.syscall(_CREATE_RULESET, rules, ctypes.c_size_t(len(rules)), 0))
    try:
        _checked(libc.syscall(_RESTRICT_SELF, descriptor, 0))
    finally:
        os.close(descriptor)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
