"""What the supervisors of one pool know together. Front process."""

from __future__ import annotations

from dataclasses import dataclass, field

from pool.breaker import Breaker
from pool.canary import KnownAnswer
from pool.memory import num_oom_kills
from pool.slab import Lease


@dataclass(slots=True)
class Oversight:
    """`canary` holds the slot of the picture with the known answer, from the first `Ready` on."""

    breaker: Breaker
    answer: KnownAnswer = field(default_factory=KnownAnswer)
    canary: Lease | None = None
    num_oom_kills: int = field(default_factory=num_oom_kills)
    """The kernel's count that has been laid to a death already."""

    def has_run_short(self) -> bool:
        """Whether the kernel has killed for memory since this was asked last: then that was this death."""
        before, self.num_oom_kills = self.num_oom_kills, num_oom_kills()
        return self.num_oom_kills > before
