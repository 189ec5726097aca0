"""A child process that looks at something which may crash, hang or be slow to import, within a time limit.

A probe is a module that prints lines of JSON objects, each as soon as it knows something; what came before a crash or
before the limit counts, and the last `stage` tells where it stuck.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds our packages."""
LAST_WORDS = 1.0
"""Seconds for a killed process to go. One that the driver holds in the kernel does not, and is left behind."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a probe said; `failure` is empty if it came to its end, else why it did not, in one line."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    failure: str = ""
    is_late: bool = False
    """It did not end in time."""

    @property
    def stage(self) -> str:
        """What it was doing last."""
        return str(self.facts.get("stage", "starting"))


class Probe:
    """Started at once; `answer` waits for it."""

    def __init__(self, module: str, environment: Mapping[str, str], limit: float, argument: str = "") -> None:
        """Run `module` with `argument`; `environment` is all it gets, `limit` is in seconds from now."""
        self._deadline = time.monotonic() + limit
        self._limit = limit
        path = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH", "")]))
        # -P: the working folder may be one that others can write to.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *([argument] if argument else [])],
            env={**environment, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def answer(self) -> Answer:
        """What it has found by its end or by the limit."""
        try:
            out, errors = self._process.communicate(timeout=max(0.0, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            facts = _facts(self._kill())
            stage = facts.get("stage", "starting")
            return Answer(facts, f"no answer within {self._limit:.0f} s while {stage}", is_late=True)
        facts = _facts(out)
        code = self._process.returncode
        if code == 0:
            return Answer(facts)
        if code < 0:
            return Answer(facts, f"killed by {Signals(-code).name} while {facts.get('stage', 'starting')}")
        return Answer(facts, _last_line(errors) or f"ended with code {code}")

    def _kill(self) -> bytes:
        """What it had written."""
        self._process.kill()
        try:
            return self._process.communicate(timeout=LAST_WORDS)[0]
        except subprocess.TimeoutExpired as error:
            return error.output or b""


def _facts(out: bytes) -> dict[str, Any]:
    """All lines' objects in one, later ones winning; libraries may print other things in between."""
    facts: dict[str, Any] = {}
    for line in out.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict):
            facts |= said
    return facts


def _last_line(errors: bytes) -> str:
    """A traceback's last line: the exception."""
    lines = errors.decode(errors="replace").strip().splitlines()
    return lines[-1].strip()[:300] if lines else ""
