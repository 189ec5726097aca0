"""What is installed, asked of the packages' own records: nothing is imported."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from server.doctor.finding import Finding, ok, problem

OURS = "model-inference-engine"
PACKAGES: tuple[tuple[str, ...], ...] = (
    ("torch",),
    ("torchvision",),
    ("ultralytics-opencv-headless", "ultralytics"),
    ("transformers",),
    ("openvino",),
    ("numpy",),
)
"""Names of one package each, the one that is declared first."""


def check_versions() -> list[Finding]:
    """One line with all that is there, one for each that is not."""
    found = [(names[0], _version(names)) for names in PACKAGES]
    ours = _version((OURS,)) or "not installed (run from its source)"
    there = ", ".join(f"{name} {number}" for name, number in found if number)
    findings = [ok("versions", f"{OURS} {ours}, Python {platform.python_version()}, {there}")]
    for name, number in found:
        if not number:
            findings.append(
                problem("missing", f"{name} is not installed", "install the locked versions: make install")
            )
    return findings


def _version(names: tuple[str, ...]) -> str:
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""
