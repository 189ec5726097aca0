"""What a pool allows itself. Front process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


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
    launch_timeout: float = 120.0
    """For the forkserver to answer; it imports libraries first."""
    batch_timeout: float = 120.0
    """No batch is given longer, whatever batches of its shape took before."""
    first_batch_timeout: float = 60.0
    min_batch_timeout: float = 10.0
    """The limit learnt from fast batches is never below this."""
    stop_timeout: float = 5.0
    check_timeout: float = 5.0
    """For a device to show that it still works, after a model raised."""
    max_result_bytes: int = 16 * 1024 * 1024
    max_load_failures: int = 3
    canary_interval: float = 60.0
    """A replica idle for so long is asked something whose answer is known."""
    quarantine_time: float = 600.0
    breaker_failures: int = 5
    breaker_window: float = 60.0
    breaker_retry: float = 30.0
    kept_slot_bytes: int = 0
    """0: the memory of all slots is there from the start. Else slots may be far larger than what is usually written to
    them: a free one keeps its first so many bytes, and `Lease.reserve` gets what a request needs beyond."""
    writes_slots: bool = False
    """The model answers by writing to the slot: its rows' pixels are writable, and with a result the caller has its
    lease back."""
    is_proven_by_load: bool = False
    """A worker that serves has shown that it works: its death counts for no pause and never opens the breaker."""
    patience: Mapping[str, float] = field(default_factory=dict)
    """By batch key, how many times longer than others its batches may take before they count as hung."""
    max_worker_growth: int = 0
    """Bytes by which a worker may outgrow what it needed once warm before it is replaced; 0: any."""
    max_worker_age: float = 0.0
    """Seconds after which a worker is replaced; 0: never."""
