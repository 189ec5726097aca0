"""What a container does to a process, with the kernel's namespaces alone and without being root.

Run as ``unshare --user --map-root-user --mount --propagation private PYTHON sandbox.py PROJECT CONVERTED UID COMMAND...``:
a new root in which everything of the machine is read-only, with fresh /tmp and /models, and a user UID without any
capability. The folder CONVERTED is copied into the volume, where it saves a start the conversion of its networks.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

WRITABLE = ("tmp", "models")
"""The tmpfs and the volume of the compose files."""
KERNELS = ("proc", "dev")
_SYS_MOUNT_SETATTR = 442
_AT_FDCWD, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY = -100, 0x8000, 1


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def make_read_only(path: Path) -> None:
    """With all that is mounted below."""
    wanted = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_RDONLY, 0, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.syscall(
        _SYS_MOUNT_SETATTR, _AT_FDCWD, bytes(path), _AT_RECURSIVE, ctypes.byref(wanted), ctypes.sizeof(wanted)
    )
    if failed:
        raise OSError(ctypes.get_errno(), "mount_setattr")


def enter(kept: Path, converted: Path) -> None:
    """Make the new root and go there; `kept` is seen there, read-only, also if it lies in /tmp."""
    root = Path("/mnt")
    mount("-t", "tmpfs", "tmpfs", str(root))
    for there in Path("/").iterdir():
        here = root / there.name
        if there.is_symlink():
            here.symlink_to(there.readlink())
        elif there.is_dir() and there.name not in (*WRITABLE, root.name):
            here.mkdir()
            if there.name not in KERNELS:
                mount("--rbind", str(there), str(here))
    for name in WRITABLE:
        (root / name).mkdir()
    (root / "old").mkdir()
    make_read_only(root)
    for name in KERNELS:
        mount("--rbind", f"/{name}", str(root / name))
    for name in WRITABLE:
        mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", str(root / name))
    if kept.is_relative_to("/tmp"):
        below = root / kept.relative_to("/")
        below.mkdir(parents=True)
        mount("--rbind", str(kept), str(below))
        make_read_only(below)
    if converted.is_dir():
        shutil.copytree(converted, root / "models" / "converted")
    os.chdir(root)
    subprocess.run(["pivot_root", ".", "old"], check=True)
    subprocess.run(["umount", "--lazy", "/old"], check=True)
    os.chdir("/models")


if __name__ == "__main__":
    project, converted, uid, *command = sys.argv[1:]
    enter(Path(project), Path(converted))
    os.execvp("unshare", ["unshare", "--user", f"--map-user={uid}", f"--map-group={uid}", *command])
