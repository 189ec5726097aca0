"""A supervised pool of model processes behind one shared-memory slab. Knows neither HTTP nor any model.

front process                                   │ border │   worker process, one model, pinned
                                                │        │
lease() ──▶ slot ◀── pixels written by caller   │ memfd  │   SlabView.pixels(slot, nonce)
infer() ──▶ RequestQueue ──▶ Replica.submit ────┼─Batch──┼──▶ worker: Model.infer(rows)
               ▲                                │        │        │      or launch(rows) and, while the
               │ put_back (a worker died)       │        │        ▼      next one runs, result()
Result  ◀── Entry.settle ◀── Replica.complete ◀─┼─Done───┼──── fragments
                                                │        │
Supervisor: one coroutine per replica ── Launcher ──▶ forkserver ──fork──▶ worker
"""

from pool.batching import Result
from pool.core_budget import CoreBudget, usable_cores
from pool.errors import (
    CrashLoopError,
    DeadlineExceededError,
    EntryFailedError,
    LoadFailedError,
    ModelLoadingError,
    NotEnoughMemoryError,
    PoolError,
    PoolStoppedError,
    QueueFullError,
)
from pool.launcher import Launcher
from pool.limits import Limits
from pool.placement import Placement, place
from pool.pool import Pool
from pool.slab import Lease

__all__ = [
    "CoreBudget",
    "CrashLoopError",
    "DeadlineExceededError",
    "EntryFailedError",
    "Launcher",
    "Lease",
    "Limits",
    "LoadFailedError",
    "ModelLoadingError",
    "NotEnoughMemoryError",
    "Placement",
    "Pool",
    "PoolError",
    "PoolStoppedError",
    "QueueFullError",
    "Result",
    "place",
    "usable_cores",
]
