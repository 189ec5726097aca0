"""How fast a pool answers, learnt from what it did. Pure, front process."""

from __future__ import annotations

_WEIGHT = 0.1


class DrainRate:
    """Exponentially weighted seconds of one replica's time per row."""

    def __init__(self) -> None:
        self.row_seconds = 0.0
        """0 until the first batch is done."""

    def observe(self, num_rows: int, seconds: float) -> None:
        """One replica was busy for `seconds` with `num_rows` rows."""
        sample = seconds / max(num_rows, 1)
        self.row_seconds += (sample - self.row_seconds) * (_WEIGHT if self.row_seconds else 1.0)

    def wait(self, num_rows: int, num_replicas: int) -> float:
        """Seconds until `num_rows` rows are answered by `num_replicas` replicas; 0 while nothing is known."""
        return num_rows * self.row_seconds / max(num_replicas, 1)
