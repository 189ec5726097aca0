"""SIGTERM under load, twenty times: the test does it, this counts and times it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from bench.chaos.checks import Check, none_of
from bench.record import percentiles

_TEST = "tests/test_leaving.py::test_nothing_is_lost_twenty_times_over"


def leave() -> dict[str, Any]:
    """Run the test that starts the real server, loads it with 16 clients and tells it to stop."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", _TEST, "--junitxml", str(report)]
        subprocess.run(command, check=False, stdout=sys.stderr)
        cases = list(ElementTree.parse(report).iter("testcase"))
    failed = sum(case.find("failure") is not None or case.find("error") is not None for case in cases)
    return {
        "checks": [
            Check("servers stopped", len(cases), "20", len(cases) == 20),
            none_of("stops that lost a request or did not end with 0", failed),
        ],
        "seconds_from_start_to_end": percentiles([float(case.get("time", "nan")) for case in cases]),
    }
