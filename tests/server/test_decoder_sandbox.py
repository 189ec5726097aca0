"""Each measure alone, in a process that takes no other: together they would hide that one of them does nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from server import decoder_landlock, decoder_sandbox, decoder_seccomp

PROBE = """
import ctypes, os, resource, socket, sys
from pathlib import Path
from server import decoder_sandbox
def attempt(name, action):
    try:
        action()
    except (OSError, MemoryError) as error:
        print(name, "refused")
    else:
        print(name, "done")
own = socket.socketpair()
mapped = os.memfd_create("x")
parent = os.getppid()
steps = decoder_sandbox.measures(64 * 2**20)
for name in sys.argv[2:]:
    try:
        steps[name]()
    except OSError as error:
        print("unavailable", error)
        os._exit(0)
attempt("read", lambda: Path(sys.argv[1]).read_bytes())
attempt("write", lambda: Path(sys.argv[1]).write_bytes(b"x"))
attempt("socket", socket.socket)
attempt("fork", lambda: os.fork() or os._exit(0))
attempt("exec", lambda: os.execv("/nonexistent", ["x"]))
attempt("signal", lambda: os.kill(parent, 0))
attempt("own_signal", lambda: os.kill(os.getpid(), 0))
attempt("talk", lambda: (own[0].sendall(b"x"), own[1].recv(1)))
attempt("memory", lambda: bytearray(256 * 2**20))
attempt("grow", lambda: os.pwrite(mapped, b"x" * 64 * 2**20, 0))
attempt("chown", lambda: os.setresuid(0, 0, 0))
sys.stdout.flush()
os._exit(0)
"""


def outcomes(path: Path, *names: str) -> dict[str, str]:
    """What can be done after the measures `names`. Skips where the platform lacks one."""
    command = [sys.executable, "-c", PROBE, str(path), *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.stdout.startswith("unavailable"):
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stderr
    return dict(line.split() for line in done.stdout.splitlines())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that everybody may read and write."""
    for folder in (tmp_path, tmp_path.parent):
        folder.chmod(0o777)
    path = tmp_path / "file"
    path.write_bytes(b"x")
    path.chmod(0o666)
    return path


def refused(found: dict[str, str]) -> set[str]:
    return {name for name, outcome in found.items() if outcome == "refused"}


def test_without_a_measure_everything_can_be_done(path: Path) -> None:
    assert refused(outcomes(path)) <= {"exec", "chown"}  # there is no such program; not everybody is root


def test_seccomp_refuses_what_a_decoder_has_no_use_for_and_leaves_it_its_own_socket(path: Path) -> None:
    found = refused(outcomes(path, "no_new_privs", "seccomp"))
    assert found >= {"read", "write", "socket", "fork", "signal"}
    assert not found & {"own_signal", "talk", "memory"}


def test_landlock_refuses_files(path: Path) -> None:
    found = refused(outcomes(path, "no_new_privs", "landlock"))
    assert found >= {"read", "write"}
    assert not found & {"own_signal", "talk", "memory"}


def test_limits_refuse_memory_and_growing_files(path: Path) -> None:
    found = refused(outcomes(path, "limits"))
    assert found >= {"memory", "grow"}
    assert not found & {"own_signal", "talk"}


@pytest.mark.skipif(os.geteuid() != 0, reason="not root")
def test_nobody_has_no_rights_and_may_not_start_a_process(path: Path) -> None:
    found = refused(outcomes(path, "limits", "nobody", "no_capabilities"))
    assert found >= {"fork", "chown", "signal"}
    assert not found & {"talk"}


def test_the_numbers_are_those_of_the_kernels_own_list() -> None:
    lists = {
        "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        "aarch64": Path("/usr/include/asm-generic/unistd.h"),
    }
    for machine, path in lists.items():
        if not path.exists():
            continue
        found = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", path.read_text())
        numbers = {name: int(number) for name, number in found}
        ours = {**decoder_seccomp.refused_calls(machine), **decoder_seccomp.signal_calls(machine)}
        known = {name: number for name, number in ours.items() if name in numbers}
        assert len(known) > 50 and known == {name: numbers[name] for name in known}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_no_jump_of_the_filter_leads_past_its_end(machine: str) -> None:
    program = decoder_seccomp.program(machine, 1234)
    assert len(program) % 8 == 0
    length = len(program) // 8
    for place in range(length):
        if_true, if_false = program[8 * place + 2 : 8 * place + 4]
        assert place + 1 + max(if_true, if_false) < length or place == length - 1


def test_a_ruleset_has_the_rights_of_its_version() -> None:
    assert [len(decoder_landlock.ruleset(version)) for version in (1, 3, 4, 5, 6, 9)] == [
        8,
        8,
        16,
        16,
        24,
        24,
    ]
    assert decoder_landlock.ruleset(1) == (2**13 - 1).to_bytes(8, "little")


def test_what_is_missing_is_said_with_its_reason() -> None:
    assert decoder_sandbox.describe({"limits": "", "landlock": "Function not implemented"}) == (
        "limits; not available: landlock (Function not implemented)"
    )
