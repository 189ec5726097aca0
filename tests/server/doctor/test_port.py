from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from server.doctor.port import check_port, explain
from tests.server.doctor.machine import settings_of


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_free_port_is_ok_and_free_again_afterwards() -> None:
    port = free_port()
    (found,) = check_port(settings_of(port=port))
    assert found.status == "ok" and f"port {port} is free" in found.text
    socket.create_server(("127.0.0.1", port)).close()
    assert check_port(settings_of(port=0))[0].status == "ok"


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_port_in_use_is_a_problem_and_says_by_whom(family: socket.AddressFamily, host: str) -> None:
    with socket.create_server((host, 0), family=family) as listener:
        port = listener.getsockname()[1]
        (found,) = check_port(settings_of(host=host, port=port))
    assert found.status == "problem" and f"by process {os.getpid()} (" in found.text
    assert "ENGINE_PORT" in found.remedy


def test_a_port_in_use_by_somebody_who_cannot_be_seen_is_a_problem(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        (found,) = check_port(settings_of(port=listener.getsockname()[1]), tmp_path)
    assert found.status == "problem" and "another user" in found.text


def test_options_of_who_has_the_port_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / "7" / "fd").mkdir(parents=True)
    (tmp_path / "7" / "cmdline").write_bytes(b"python\0-m\0server\0serve\0--admin-keys\0secret\0")
    (tmp_path / "7" / "fd" / "3").symlink_to("socket:[4711]")
    (tmp_path / "net").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        row = f"0: 0100007F:{port:04X} 00000000:0000 0A 0:0 00:0 0 0 0 4711"
        (tmp_path / "net" / "tcp").write_text(f"head\n{row}\n")
        (found,) = check_port(settings_of(port=port), tmp_path)
    assert found.text.endswith("is served by process 7 (python -m server serve)")


def test_the_engine_itself_on_its_port_is_no_problem() -> None:
    error = OSError(errno.EADDRINUSE, "in use")
    for command in ("/opt/venv/bin/python /opt/venv/bin/inference-engine serve", "python -m server serve"):
        assert explain("0.0.0.0 port 5000", error, f"7 ({command})").status == "ok"
    assert explain("0.0.0.0 port 5000", error, "7 (nginx)").status == "problem"


@pytest.mark.parametrize(("number", "remedy"), [
    (errno.EACCES, "ENGINE_PORT=5000"), (errno.EADDRNOTAVAIL, "ENGINE_HOST=0.0.0.0"), (errno.ENOBUFS, "ENGINE_HOST"),
])  # fmt: skip
def test_other_reasons_have_their_remedy(number: int, remedy: str) -> None:
    found = explain("127.0.0.1 port 80", OSError(number, os.strerror(number)))
    assert found.status == "problem" and remedy in found.remedy


def test_a_host_that_is_not_this_machines_is_a_problem() -> None:
    (found,) = check_port(settings_of(host="192.0.2.1", port=0))
    assert found.status == "problem" and "does not have that address" in found.text
    name = explain("nowhere port 1", socket.gaierror(-2, "Name or service not known"))
    assert name.status == "problem" and "not known" in name.text


def test_every_interface_is_said_to_be_open_to_all() -> None:
    (found,) = check_port(settings_of(host="0.0.0.0", port=0))
    assert found.status == "ok" and "every network" in found.text
