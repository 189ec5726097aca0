"""``inference-engine doctor``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.doctor.examination import examine
from server.doctor.report import print_report


def doctor(given: Mapping[str, Any], *, as_json: bool = False) -> int:
    """Examine this machine with the settings as `serve` would read them, print what was found; the exit code."""
    report = examine(given)
    if as_json:
        print(report.to_json())
    else:
        print_report(report)
    return report.exit_code
