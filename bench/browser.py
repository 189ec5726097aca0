"""The browser that this machine has, without a window. For tests and for the pictures of README.md."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def headless_browser() -> Iterator[Any]:
    """A `playwright.sync_api.Browser`. Raises FileNotFoundError where there is neither Chromium nor Chrome."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        installed = driver.chromium.executable_path
        found = (path for name in _NAMES if (path := shutil.which(name)))
        path = next(found, installed if Path(installed).exists() else None)
        if path is None:
            raise FileNotFoundError("neither Chromium nor Chrome is on this machine")
        # its sandbox runs neither for root nor where user namespaces are off; it is shown nothing but our own page
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
