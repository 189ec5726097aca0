from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PRELUDE = """
import os, signal, sys, threading, time
from models.errors import WeightsInvalidError
from models.runtimes import child
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, with one thread: pytest has more."""
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_work_is_done_in_another_process_and_its_end_is_told() -> None:
    done = run(
        "import json\n"
        "def work():\n"
        "    import decimal; print(os.getpid(), flush=True)\n"
        "print(os.getpid(), child.run(work), 'decimal' in sys.modules)"
    )
    in_child, parent, ended, is_imported = done.stdout.split()
    assert (in_child != parent, ended, is_imported) == (True, "True", "False"), done.stderr


def test_an_error_of_a_model_is_raised_as_itself() -> None:
    done = run(
        "def work(): raise WeightsInvalidError('no good')\n"
        "try: child.run(work)\n"
        "except WeightsInvalidError as error: print(error, error.permanent)"
    )
    assert done.stdout == "no good True\n", done.stderr


@pytest.mark.parametrize(
    "work", ["raise ValueError('other')", "os.kill(os.getpid(), 9)", "os._exit(3)", "sys.exit(0)"]
)
def test_work_that_did_not_come_to_its_end_is_left_to_the_caller(work: str) -> None:
    done = run(f"def work(): {work}\nprint(child.run(work))")
    assert done.stdout == "False\n", done.stderr


def test_a_process_with_threads_is_not_forked() -> None:
    done = run(
        "stop = threading.Event(); thread = threading.Thread(target=stop.wait); thread.start()\n"
        "print(child.run(lambda: print('done')))\n"
        "stop.set(); thread.join()"
    )
    assert done.stdout == "False\n", done.stderr


def test_the_child_ends_with_its_parent(tmp_path: Path) -> None:
    code = "def work():\n    print(os.getpid(), flush=True)\n    time.sleep(60)\nchild.run(work)"
    process = subprocess.Popen([sys.executable, "-c", PRELUDE + code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pidfd = os.pidfd_open(int(process.stdout.readline()))
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)
    ended, _, _ = select.select([pidfd], [], [], 10)
    os.close(pidfd)
    process.stdout.close()
    assert ended
