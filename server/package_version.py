"""The version of this package."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def package_version() -> str:
    """``0`` where it runs from a checkout that is not installed."""
    try:
        return version("model-inference-engine")
    except PackageNotFoundError:
        return "0"
