"""Answers that were given before, the most recently used ones, within a budget of bytes. Front process, pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from weakref import WeakSet

from server.results import Answered, Timings

if TYPE_CHECKING:
    from pool import Pool

OVERHEAD = 768
"""Bytes that an answer takes beside its payload, on the safe side (550 measured with tracemalloc)."""


@dataclass(frozen=True, slots=True)
class ContentKey:
    """What makes two requests the same: the pool that answers (another one has other weights), and the digest of
    the encoded image with everything that is asked of it."""

    pool: Pool
    digest: bytes


class ResponseCache:
    """Answers by key, least recently used out first. `max_bytes` 0 keeps nothing.

    Not cachetools' `LRUCache`: it has no way to drop the answers of one pool, which is half of this.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._answers: OrderedDict[ContentKey, Answered] = OrderedDict()
        self._left: WeakSet[Pool] = WeakSet()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: ContentKey) -> Answered | None:
        """The answer kept under `key`, without the timings of the run that made it; None if there is none."""
        answered = self._answers.get(key)
        if answered is not None:
            self._answers.move_to_end(key)
        return answered

    def put(self, key: ContentKey, answered: Answered) -> None:
        """Keep `answered`, unless it is larger than the budget or its pool has been dropped meanwhile."""
        num_bytes = _size(answered)
        if key in self._answers or num_bytes > self.max_bytes or key.pool in self._left:
            return
        while self.num_bytes + num_bytes > self.max_bytes:
            _, oldest = self._answers.popitem(last=False)
            self.num_bytes -= _size(oldest)
        self._answers[key] = replace(
            answered, timings=Timings({}), result=replace(answered.result, timings={})
        )
        self.num_bytes += num_bytes

    def drop(self, pool: Pool) -> None:
        """Forget every answer of `pool`, which new requests do not get any more, and keep none from now on."""
        self._left.add(pool)
        for key in [key for key in self._answers if key.pool is pool]:
            self.num_bytes -= _size(self._answers.pop(key))


def _size(answered: Answered) -> int:
    return len(answered.result.payload) + OVERHEAD
