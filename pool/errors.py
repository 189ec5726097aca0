"""What can happen to a caller of the pool, one exception each. Raised in the front process only."""

from __future__ import annotations


class PoolError(Exception):
    """Base of everything the pool raises on purpose."""


class QueueFullError(PoolError):
    """No slot or no place in the queue is free. `retry_after` is an estimate in seconds."""

    def __init__(self, retry_after: float = 1.0) -> None:
        super().__init__(f"queue is full, retry after {retry_after:.1f} s")
        self.retry_after = retry_after


class DeadlineExceededError(PoolError):
    """The deadline passed before a result was there."""


class ModelLoadingError(PoolError):
    """The model was still loading when the caller's deadline passed. `retry_after` is in seconds."""

    def __init__(self, retry_after: float = 5.0) -> None:
        super().__init__("model is still loading")
        self.retry_after = retry_after


class CrashLoopError(PoolError):
    """The model's workers die one after the other without doing anything. `retry_after` is in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"workers keep dying, next try in {retry_after:.0f} s")
        self.retry_after = retry_after


class LoadFailedError(PoolError):
    """The model cannot be loaded and loading is not being retried.

    `code` says why in one word (for instance ``weights_unavailable``); `reason` is for operators and logs.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class EntryFailedError(PoolError):
    """The model refused or failed this one entry; its batch-mates are unaffected.

    `code` is a word the model chose (``internal`` when it raised something unexpected); `reason` is for logs.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class PoolStoppedError(PoolError):
    """The pool is draining or stopped and takes nothing more."""


class NotEnoughMemoryError(PoolError):
    """The slab does not fit into the memory this process may use."""
