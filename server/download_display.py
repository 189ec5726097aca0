"""How far a download is: a bar on a terminal, a plain line every few seconds elsewhere. Both on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol

LINE_INTERVAL = 5.0
MEGABYTE = 1e6


class DownloadDisplay(Protocol):
    """Called with every report of a download's progress."""

    def __call__(self, fields: Mapping[str, Any]) -> None: ...

    def close(self) -> None:
        """Leave the terminal as it should be. Safe to call twice."""
        ...


def open_display(name: str) -> DownloadDisplay:
    """A display of the download of `name`; it shows nothing before the first byte."""
    return Bar(name) if sys.stderr.isatty() else Lines(name)


class Bar:
    """Percent, bytes, speed and the time that is left, on one line."""

    def __init__(self, name: str) -> None:
        from rich import progress
        from rich.console import Console

        self._name = name
        self._task: Any = None
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            console=Console(stderr=True),
            redirect_stdout=False,  # results go where the caller wants them, not to the terminal
        )

    def __call__(self, fields: Mapping[str, Any]) -> None:
        done, total = fields.get("done_bytes"), fields.get("total_bytes")
        if done is None:
            return
        if self._task is None:
            self._task = self._bar.add_task(self._name, total=total, completed=done)
            self._bar.start()
        self._bar.update(self._task, completed=done, total=total)

    def close(self) -> None:
        if self._task is not None:
            self._bar.stop()


class Lines:
    """The same as text."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._started_at: float | None = None
        self._started_with = 0
        self._shown_at = 0.0
        self._shown = -1

    def __call__(self, fields: Mapping[str, Any]) -> None:
        done, total = fields.get("done_bytes"), fields.get("total_bytes")
        if done is None:
            return
        now = time.monotonic()
        if self._started_at is None:
            self._started_at, self._started_with = now, done
        is_due = now - self._shown_at >= LINE_INTERVAL or done == total
        if is_due and done != self._shown:
            self._shown_at, self._shown = now, done
            print(self._text(done, total, now - self._started_at), file=sys.stderr, flush=True)

    def _text(self, done: int, total: int | None, seconds: float) -> str:
        text = f"{self._name}: {done / MEGABYTE:.1f}"
        text += f" of {total / MEGABYTE:.1f} MB, {100 * done // total} %" if total else " MB"
        speed = (done - self._started_with) / MEGABYTE / seconds if seconds > 0 else 0.0
        return f"{text}, {speed:.1f} MB/s" if speed else text

    def close(self) -> None:
        pass
