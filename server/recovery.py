"""When to stop hoping: a platform can start the container elsewhere, which helps where starting workers does not."""

from __future__ import annotations

from collections.abc import Collection

from server.served import Served


class Recovery:
    """Watches whether the required models can still come back by themselves."""

    def __init__(self, patience: float) -> None:
        """`patience` is in seconds; 0: for ever."""
        self._patience = patience
        self._hopeless_since: float | None = None

    def is_given_up(self, models: Collection[Served], now: float) -> bool:
        """Whether for so long every required model has been without a worker that lives, or without its device.

        Weights that are missing or wrong are no reason: those are an operator's to put right, and then help.
        """
        required = [served for served in models if served.is_required]
        if not required or not all(map(_is_hopeless, required)):
            self._hopeless_since = None
            return False
        if self._hopeless_since is None:
            self._hopeless_since = now
        return 0 < self._patience <= now - self._hopeless_since


def _is_hopeless(served: Served) -> bool:
    if served.is_ready:
        return False
    is_lost = served.failure is not None and served.failure.code == "device_lost"
    return is_lost or served.state == "crash_looping"
