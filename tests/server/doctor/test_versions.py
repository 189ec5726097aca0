from __future__ import annotations

import platform

import pytest

from server.doctor import versions
from server.doctor.versions import check_versions


def test_what_is_installed_is_told_in_one_line() -> None:
    (found,) = check_versions()
    assert found.status == "ok" and f"Python {platform.python_version()}" in found.text
    assert all(name in found.text for name in ("torch 2.", "ultralytics", "transformers", "openvino"))


def test_what_is_missing_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "PACKAGES", (("numpy",), ("not-there-at-all",)))
    told, missing = check_versions()
    assert told.status == "ok" and missing.status == "problem" and "not-there-at-all" in missing.text
