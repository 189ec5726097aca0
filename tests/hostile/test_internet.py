"""`image_url` with nothing replaced: the real server, resolver, TLS and kernel, on an internet of its own."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
UNSHARE = [
    "unshare",
    "--user",
    "--map-root-user",
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
]


def _why_not() -> str:
    if not all(map(shutil.which, ("unshare", "mount", "openssl"))):
        return "needs unshare, mount and openssl"
    tried = subprocess.run(
        [*UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False
    )
    if tried.returncode:
        return "new namespaces are not allowed here"
    return "" if sys.maxsize > 2**32 and platform.system() == "Linux" else "64 bits"


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """What internet_run.py saw."""
    if reason := _why_not():
        pytest.skip(reason)
    done = subprocess.run(
        [*UNSHARE, sys.executable, "-m", "tests.hostile.internet_run"],
        cwd=ROOT, capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_only_public_addresses_are_ever_reached_whatever_is_asked_for(report: dict[str, Any]) -> None:
    assert report["at_start"] == [0, 0], "a server that starts asks nobody for anything"
    assert report["hits"] == ["2606:4700::1111 80", "93.184.215.14 443", "93.184.215.14 80"]


def test_public_images_come_and_everything_else_is_refused(report: dict[str, Any]) -> None:
    assert report["expected"], "the model sees something in the picture"
    for url, (status, reply, _) in report["answered"].items():
        assert (status, reply["predictions"]) == (200, report["expected"]), url
    for url, (status, reply, _) in report["refused"].items():
        assert status in (400, 422), url
        assert reply["error"]["code"] in (
            "invalid_image_url",
            "image_url_not_allowed",
            "image_fetch_failed",
        ), url


def test_a_name_with_a_private_answer_is_not_dialled_at_all(report: dict[str, Any]) -> None:
    for name in ("mixed", "mixed2", "mixed6", "internal", "metadata", "six-internal", "rebinds"):
        (found,) = [
            case for url, case in report["refused"].items() if url.startswith(f"http://{name}.example/a")
        ]
        assert (found[1]["error"]["code"], found[2]) == ("image_url_not_allowed", []), name
        assert f"{name}.example" in report["queries"]


def test_no_reply_names_an_address(report: dict[str, Any]) -> None:
    for url, (_, reply, _) in report["refused"].items():
        message = reply["error"]["message"]
        assert not any(part.isdigit() for part in message.split(".")), (url, message)
        assert "errno" not in message.lower() and "example" not in message


def test_certificates_that_are_not_the_hosts_are_refused(report: dict[str, Any]) -> None:
    for name in ("wrong", "stranger", "expired"):
        _, reply, _ = report["refused"][f"https://{name}.example/a.jpg"]
        assert reply["error"]["message"] == "The image could not be fetched: connect."
