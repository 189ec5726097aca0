"""What a pool allows itself. Front process."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What a pool allows itself. Durations in float seconds, sizes in bytes."""

    max_batch_size: int = 8
    max_queue_delay: float = 0.0
    max_queue_size: int = 128
    max_in_flight: int = 1
    num_extra_slots: int = 8
    """Slots beyond queue and batches: pictures being decoded."""
    start_timeout: float = 600.0
    batch_timeout: float = 30.0
    stop_timeout: float = 5.0
    max_result_bytes: int = 16 * 1024 * 1024
    max_load_failures: int = 3
