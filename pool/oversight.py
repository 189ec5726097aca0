"""What the supervisors of one pool know together. Front process."""

from __future__ import annotations

from dataclasses import dataclass, field

from pool.breaker import Breaker
from pool.canary import KnownAnswer
from pool.slab import Lease


@dataclass(slots=True)
class Oversight:
    """`canary` holds the slot of the picture with the known answer, from the first `Ready` on."""

    breaker: Breaker
    answer: KnownAnswer = field(default_factory=KnownAnswer)
    canary: Lease | None = None
