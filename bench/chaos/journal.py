"""What was asked and what came back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.record import percentiles

RIGHT, WRONG, LOST = "right", "wrong", "lost"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, from the moment it was sent (or, in an open loop, `due`) to its answer. Monotonic seconds.

    `outcome` is ``right`` (what was expected: a right 200, or the error that was due), ``wrong`` (a 200 with somebody
    else's answer or request id), ``lost`` (no answer), or the code of an error that was not due.
    """

    key: int
    request_id: str
    due: float
    sent_at: float
    done_at: float
    status: int
    outcome: str

    @property
    def latency(self) -> float:
        """Seconds from sending to the whole answer."""
        return self.done_at - self.sent_at


@dataclass
class Journal:
    """All requests of a phase, in the order in which they ended."""

    asked: list[Asked] = field(default_factory=list)
    num_unasked: int = 0
    """Replies on a connection on which nothing was asked."""

    def count(self, outcome: str) -> int:
        """How many ended so."""
        return sum(one.outcome == outcome for one in self.asked)

    def with_status(self, status: int) -> list[Asked]:
        """Those answered so."""
        return [one for one in self.asked if one.status == status]

    @property
    def outcomes(self) -> dict[str, int]:
        """Every outcome with its number."""
        return dict(sorted(Counter(one.outcome for one in self.asked).items()))

    @property
    def num_server_errors(self) -> int:
        """Answers of 5xx that were not due."""
        return sum(one.status >= 500 and one.outcome != RIGHT for one in self.asked)

    def latencies(self, requests: Sequence[Asked] | None = None) -> dict[str, float]:
        """Percentiles in seconds of the right 200s."""
        chosen = self.asked if requests is None else requests
        return percentiles([one.latency for one in chosen if one.outcome == RIGHT and one.status == 200])
