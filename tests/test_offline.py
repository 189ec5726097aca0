"""Without a network and without a home folder: the server starts, answers, and asks nobody for anything."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import running_server
from tests.test_end_to_end import SAMPLES, as_raw

HOOK = """
import os, sys
_FILE = os.open(os.environ["WITNESS_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
_EVENTS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg",
           "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")

def _witness(event, arguments):
    if event in _EVENTS:
        text = " ".join(repr(a) for a in arguments if not hasattr(a, "fileno"))
        os.write(_FILE, f"{event} {text[:300]}\\n".encode())

sys.addaudithook(_witness)
os.write(_FILE, b"watching\\n")
"""
FORGOTTEN = re.compile("^(ENGINE_|HF_|HUGGINGFACE|YOLO_|ULTRALYTICS|XDG_|MPL|TORCH|TRANSFORMERS)")
LOOPBACK = re.compile(r"'127\.0\.0\.1'|'::1'|'localhost'|AF_UNIX|AF_NETLINK|127\.0\.0\.1|AF_UNSPEC")
NO_HOME = "/proc/nonexistent"  # not even root can make it


def can_trace() -> bool:
    strace = shutil.which("strace")
    return (
        strace is not None
        and subprocess.run([strace, "-D", "-f", "true"], capture_output=True).returncode == 0
    )


def bare_environment(folder: Path) -> dict[str, str]:
    """No folder of any library is named, the home folder cannot be, every interpreter is watched."""
    (folder / "hook").mkdir()
    (folder / "hook" / "sitecustomize.py").write_text(HOOK)
    (folder / "tmp").mkdir()
    kept = {name: value for name, value in os.environ.items() if not FORGOTTEN.match(name)}
    return {
        **kept, "HOME": NO_HOME, "TMPDIR": str(folder / "tmp"), "PYTHONPATH": str(folder / "hook"),
        "WITNESS_FILE": str(folder / "witness"), "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip


def test_start_and_first_answers_need_no_network_and_no_home_and_connect_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if FORGOTTEN.match(name)]:
        monkeypatch.delenv(name)
    trace = tmp_path / "trace"
    calls = "connect,sendto,sendmsg,sendmmsg"
    wrapper = (
        ["strace", "-D", "-f", "-qq", "-s", "64", "-e", f"trace={calls}", "-o", str(trace)]
        if can_trace()
        else []
    )
    with running_server(environment=bare_environment(tmp_path), wrapper=wrapper) as server:
        sample = (SAMPLES / "sample.jpg").read_bytes()
        assert as_raw(server.url + "/inference", sample).status_code == 200
        refused = as_raw(server.url + "/inference", sample, model_id="no-such-model")
        assert refused.status_code == 404
        log = server.log.read_text()
    assert "Traceback" not in log
    seen = (tmp_path / "witness").read_text().splitlines()
    assert seen.count("watching") >= 2, "the front and the forkserver were watched"
    assert [line for line in seen if line != "watching" and is_about_others(line)] == []
    if wrapper:
        lines = trace.read_text().splitlines()
        assert lines, "the trace saw something"
        assert [line for line in lines if "AF_INET" in line and not LOOPBACK.search(line)] == []


IMPORT_EVERYTHING = """
import importlib, pkgutil, models, pool, server
for package in (server, pool, models):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.startswith("models.demo.") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""


def test_importing_any_module_of_ours_asks_nobody_for_anything(tmp_path: Path) -> None:
    """Nor writes anywhere: the home folder cannot be made."""
    environment = bare_environment(tmp_path)
    root = Path(__file__).parents[1]
    environment["PYTHONPATH"] += os.pathsep + str(root)
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EVERYTHING],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    seen = (tmp_path / "witness").read_text().splitlines()
    assert seen.count("watching") == 1
    assert [line for line in seen if line != "watching" and is_about_others(line)] == []


@pytest.mark.slow
def test_a_first_question_needs_no_network_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if FORGOTTEN.match(name)]:
        monkeypatch.delenv(name)
    environment = {**bare_environment(tmp_path), "ENGINE_LOAD_AT_START": "shapes-vqa"}
    with running_server(environment=environment) as server:
        sample = (SAMPLES / "sample.jpg").read_bytes()
        reply = as_raw(server.url + "/inference", sample, model_id="shapes-vqa", prompt="what is there?")
        assert reply.status_code == 200, reply.text
        assert "Traceback" not in server.log.read_text()
    seen = (tmp_path / "witness").read_text().splitlines()
    assert seen.count("watching") >= 2
    assert [line for line in seen if line != "watching" and is_about_others(line)] == []


def is_about_others(line: str) -> bool:
    """Whether a watched event reaches beyond this machine, or starts a program that could."""
    event, _, arguments = line.partition(" ")
    if event == "subprocess.Popen":  # the forkserver; ctypes asks ldconfig where a library is
        return not arguments.startswith((repr(sys.executable), "'/sbin/ldconfig'"))
    if event in ("socket.sendmsg", "socket.sendto") and arguments == "None":
        return False  # on a connected socket: it is the connection that counts
    return not LOOPBACK.search(arguments)
