from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from server.doctor.probe import ROOT, Probe

FAILING = "tests.server.doctor.failing_probe"
ENVIRONMENT = {"PATH": os.environ["PATH"]}


def test_a_probe_that_hangs_is_killed_at_its_limit_and_its_stage_is_told() -> None:
    started = time.monotonic()
    answer = Probe(FAILING, ENVIRONMENT, 8.0, "hang").answer()
    assert time.monotonic() - started < 25
    assert answer.is_late and answer.failure == "no answer within 8 s while asking the driver"
    assert answer.facts["version"] == "1"


@pytest.mark.parametrize(("argument", "failure"), [
    ("crash", "killed by SIGSEGV while beginning"), ("exit", "ended with code 3"),
    ("raise", "ImportError: libcudart.so.13: cannot open shared object file"),
])  # fmt: skip
def test_a_probe_that_dies_leaves_what_it_said_and_why(argument: str, failure: str) -> None:
    answer = Probe(FAILING, ENVIRONMENT, 60.0, argument).answer()
    assert (answer.failure, answer.is_late, answer.facts["version"]) == (failure, False, "1")


def test_a_probe_has_the_given_environment_and_not_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENGINE_PORT", "1")
    answer = Probe(FAILING, {**ENVIRONMENT, "PYTHONPATH": "/more"}, 60.0, "environment").answer()
    assert answer.failure == ""
    assert "ENGINE_PORT" not in answer.facts["variables"]
    assert answer.facts["path"][:2] == [str(ROOT), "/more"] and str(tmp_path) not in answer.facts["path"]
