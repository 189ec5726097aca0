from __future__ import annotations

from importlib.metadata import version

import pytest

from server.doctor.wheel import Wheel, installed_wheel, read_wheel


@pytest.mark.parametrize(("text", "expected"), [
    ("__version__ = '2.15.0+cu132'\ncuda: Optional[str] = '13.2'\n", Wheel("2.15.0+cu132", (13, 2))),
    ("__version__ = '2.15.0+cpu'\ncuda: Optional[str] = None\n", Wheel("2.15.0+cpu", None)),
    ("__version__ = '2.1.0'\ncuda = '12.1'\n", Wheel("2.1.0", (12, 1))),
    ("from x import y\n", None), ("not ( python", None),
])  # fmt: skip
def test_a_build_is_read_from_its_version_file(text: str, expected: Wheel | None) -> None:
    assert read_wheel(text) == expected


def test_the_installed_build_is_found_without_importing_it() -> None:
    wheel = installed_wheel()
    assert wheel is not None and wheel.release == version("torch").partition("+")[0]
