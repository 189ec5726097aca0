"""Who runs again after a death, and who has caused too many. Front process, no clock and no waiting.

Inference is pure, so running an entry again is safe. It runs alone from then on, so that one picture that kills its
process cannot take others with it a second time.
"""

from __future__ import annotations

from dataclasses import dataclass

from pool.batching import Entry
from pool.death import Death
from pool.errors import DeadlineExceededError


@dataclass(frozen=True, slots=True)
class Verdict:
    """`replays` run again, oldest first; `condemned` have to be failed by the caller."""

    replays: list[Entry]
    condemned: list[Entry]


class Judge:
    """Remembers how many deaths there were that somebody may have caused.

    Two of them while an entry ran alone condemn it, if no other happened in the pool in between: else the device
    may be to blame, and a third has to show it.
    """

    def __init__(self) -> None:
        self._num_attributable = 0

    def judge(self, death: Death) -> Verdict:
        """Sort what a dead worker left. Whose client has left is dropped, unless it is guilty: it may return."""
        verdict = Verdict([], [])
        self._num_attributable += death.is_attributable and bool(death.batches)
        was_alone = len(death.batches) == 1 and len(death.batches[0].entries) == 1
        for entry in (entry for batch in death.batches for entry in batch.entries):
            entry.deaths.append(death.reason)
            if was_alone and death.is_attributable and self._is_guilty(entry):
                verdict.condemned.append(entry)
            elif entry.future.done():
                entry.settle(DeadlineExceededError())  # nobody hears it; the slot is free
            else:
                entry.is_suspect = True
                verdict.replays.append(entry)
        return verdict

    def _is_guilty(self, entry: Entry) -> bool:
        entry.num_deaths_alone += 1
        if entry.num_deaths_alone == 1:
            entry.first_death_alone = self._num_attributable
            return False
        return entry.num_deaths_alone > 2 or self._num_attributable == entry.first_death_alone + 1
