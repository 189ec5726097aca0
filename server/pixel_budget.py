"""How many pixels are decoded at once: so many large pictures together that memory stays bounded. In threads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class PixelBudget:
    """Pixels of all pictures that are being decoded. One picture is always let in, whatever its size."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._num_pixels = 0
        self._turn = threading.Lock()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def hold(self, num_pixels: int) -> Iterator[None]:
        """Wait in the thread until there is room; who waits is not overtaken by smaller ones."""
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._fits(num_pixels))
            self._num_pixels += num_pixels
        try:
            yield
        finally:
            with self._changed:
                self._num_pixels -= num_pixels
                self._changed.notify_all()

    def _fits(self, num_pixels: int) -> bool:
        return self._num_pixels == 0 or self._num_pixels + num_pixels <= self._max_pixels
