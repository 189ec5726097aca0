"""Who runs again after a death, and who has caused too many. Front process, no clock and no waiting.

Inference is pure, so running an entry again is safe. It runs alone from then on, so that one picture that kills its
process cannot take others with it a second time.
"""

from __future__ import annotations

from pool.batching import Entry
from pool.death import Death
from pool.errors import DeadlineExceededError, EntryFailedError

_MAX_DEATHS_ALONE = 2


def judge(death: Death) -> tuple[list[Entry], int]:
    """Sort what a dead worker left: entries to run again, oldest first, and how many were condemned.

    An entry is condemned (EntryFailedError ``image_unprocessable``) after two attributable deaths while it ran alone.
    One whose client has left is dropped.
    """
    replays: list[Entry] = []
    num_condemned = 0
    was_alone = len(death.batches) == 1 and len(death.batches[0].entries) == 1
    for entry in (entry for batch in death.batches for entry in batch.entries):
        if entry.future.done():
            entry.settle(DeadlineExceededError())  # nobody hears it; the slot is free
            continue
        entry.num_deaths_alone += was_alone and death.is_attributable
        if entry.num_deaths_alone >= _MAX_DEATHS_ALONE:
            num_condemned += 1
            entry.settle(EntryFailedError("image_unprocessable", f"killed its worker twice: {death.reason}"))
            continue
        entry.is_suspect = True
        entry.num_replays += 1
        replays.append(entry)
    return replays, num_condemned
