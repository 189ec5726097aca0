"""``inference-engine doctor``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from server.doctor.finding import Section, problem
from server.doctor.probe_set import ProbeSet
from server.doctor.report import Report, print_report
from server.doctor.versions import check_versions
from server.settings_load import SettingsError, environment, load_settings
from server.table import known_models


def doctor(given: Mapping[str, Any], *, as_json: bool = False) -> int:
    """Examine this machine with the settings as `serve` would read them, print what was found; the exit code."""
    started = time.monotonic()
    report = Report(_sections(given), time.monotonic() - started)
    if as_json:
        print(report.to_json())
    else:
        print_report(report)
    return report.exit_code


def _sections(given: Mapping[str, Any]) -> Sequence[Section]:
    try:
        settings = load_settings(given)
        known = known_models(settings)
    except SettingsError as error:
        remedy = "correct it where it was set; the settings' table in README.md says what is allowed"
        wrong = [problem("settings", line, remedy) for line in error.lines]
        # The other checks would be about settings that nobody chose.
        return [Section("Settings", wrong), Section("Versions", check_versions())]
    variables = environment()
    probes = ProbeSet.start(settings, variables)
    from server.doctor.examination import examine  # half a second of imports, while the probes do theirs

    return examine(settings, known, given, variables, probes)
