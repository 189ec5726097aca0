"""How far a run is: a bar on a terminal, a plain line every few seconds elsewhere. Both on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from threading import Thread
from typing import Any, Protocol

LINE_INTERVAL = 10.0


class Progress(Protocol):
    """`num_done` counts everything that has its record by this run, `num_total` is None as long as it is not known."""

    def show(self, num_done: int, num_failed: int, num_total: int | None) -> None: ...

    def close(self) -> None: ...


def open_progress(*, is_quiet: bool) -> Progress:
    """What suits standard error."""
    if is_quiet:
        return Nothing()
    return Bar() if sys.stderr.isatty() else Lines()


class Nothing:
    """With --quiet."""

    def show(self, num_done: int, num_failed: int, num_total: int | None) -> None:
        pass

    def close(self) -> None:
        pass


class Bar:
    """Count, rate and the time that is left, on one line."""

    def __init__(self) -> None:
        from rich import progress
        from rich.console import Console

        self._bar = progress.Progress(
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[rate]:.1f}/s"),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[failed]}", style="red"),
            console=Console(stderr=True),
            redirect_stdout=False,  # records go where the caller wants them
        )
        self._task: Any = self._bar.add_task("", total=None, rate=0.0, failed="")
        self._started_at = time.monotonic()
        self._bar.start()

    def show(self, num_done: int, num_failed: int, num_total: int | None) -> None:
        rate = num_done / max(time.monotonic() - self._started_at, 1e-9)
        failed = f"{num_failed} failed" if num_failed else ""
        self._bar.update(self._task, completed=num_done, total=num_total, rate=rate, failed=failed)

    def close(self) -> None:
        self._bar.stop()


class Lines:
    """The same as text."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started_at = self._shown_at = clock()

    def show(self, num_done: int, num_failed: int, num_total: int | None) -> None:
        now = self._clock()
        if now - self._shown_at < LINE_INTERVAL or not num_done:
            return
        self._shown_at = now
        rate = num_done / (now - self._started_at)
        text = f"{num_done} of {num_total}" if num_total is not None else f"{num_done}"
        text += f" images, {rate:.1f}/s"
        if num_total is not None:
            text += f", {max(num_total - num_done, 0) / rate:.0f} s left"
        if num_failed:
            text += f", {num_failed} failed"
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        pass


class Count:
    """Counts `items` in a thread; `total` is None until it has come to the end. Nobody waits for it."""

    def __init__(self, items: Iterable[object] | None) -> None:
        self.total: int | None = None
        if items is not None:
            Thread(target=self._count, args=[items], name="count", daemon=True).start()

    def _count(self, items: Iterable[object]) -> None:
        self.total = sum(1 for _ in items)
