"""One model as the server sees it: what is known of it, its pool while there is one, and why there is none."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from models.spec import Spec
from pool import LoadFailedError, Pool
from server.errors import load_failure
from server.table import Known

FIRST_RETRY_DELAY = 5.0
MAX_RETRY_DELAY = 300.0


@dataclass(slots=True, eq=False)
class Served:
    """Changed by the registry only. `is_required`: readiness waits for it."""

    known: Known
    is_required: bool
    pool: Pool | None = None
    incoming: Pool | None = None
    """The pool that will take the place of `pool` once it is ready."""
    num_users: int = 0
    """Requests between admission and answer: a model with users is never unloaded to make room."""
    users: Counter[Pool] = field(default_factory=Counter)
    """Those of them that were given a pool, and which."""
    user_left: asyncio.Event = field(default_factory=asyncio.Event)
    last_used: float = field(default_factory=time.monotonic)
    failure: LoadFailedError | None = None
    """Why the last load failed; None once one succeeded."""
    num_failures: int = 0
    retry_at: float = 0.0
    opening: asyncio.Task[None] | None = None
    reloading: asyncio.Task[None] | None = None
    laid_out: Pool | None = None
    """The pool for which it was seen to that its replicas are placed well."""
    closing: set[asyncio.Task[None]] = field(default_factory=set)
    _spec: Spec | None = None
    _spec_fields: Mapping[str, Any] | None = None

    @property
    def model_id(self) -> str:
        """Its name."""
        return self.known.entry.model_id

    @property
    def spec(self) -> Spec | None:
        """What its first worker said, None before; kept when the model is unloaded."""
        fields = self.pool.spec if self.pool is not None else None
        if fields is not None and fields is not self._spec_fields:
            self._spec_fields, self._spec = fields, Spec.from_json(fields)
        return self._spec

    @property
    def is_ready(self) -> bool:
        """At least one replica serves."""
        return self.pool is not None and self.pool.is_ready

    @property
    def state(self) -> str:
        """``unloaded``, ``loading``, ``ready``, ``crash_looping``, ``draining`` or ``failed``."""
        if self.pool is not None:
            return self.pool.state
        if self.opening is not None:
            return "loading"
        if self.closing:
            return "draining"
        return "failed" if self.failure is not None else "unloaded"

    def note_success(self) -> None:
        """A worker serves: what went wrong before does not count any more."""
        self.failure, self.num_failures = None, 0

    def note_failure(self, error: LoadFailedError) -> None:
        """A load has failed for good: the next try waits 5 s, 10 s, ... 5 min."""
        self.failure = error
        self.retry_at = time.monotonic() + min(
            FIRST_RETRY_DELAY * 2.0 ** min(self.num_failures, 20), MAX_RETRY_DELAY
        )
        self.num_failures += 1

    @contextlib.contextmanager
    def use(self, pool: Pool) -> Iterator[Pool]:
        """Until its end `pool` is not stopped, although another may take its place meanwhile."""
        self.users[pool] += 1
        try:
            yield pool
        finally:
            self.users[pool] -= 1
            if not self.users[pool]:
                del self.users[pool]
            self.user_left.set()

    def forget_pool(self) -> Pool:
        """Take the pool out, to be stopped by the caller; its spec stays known."""
        _ = self.spec
        pool, self.pool = self.pool, None
        assert pool is not None
        return pool

    def switch(self) -> Pool | None:
        """From here on requests get the incoming pool. Returns the one before, to be stopped by the caller."""
        old, self.pool, self.incoming = self.pool, self.incoming, None
        if old is not None and self.pool is not None:
            self.pool.learn_rate(old)
        self.note_success()
        return old

    def health(self) -> dict[str, Any]:
        """For `GET /healthz`, JSON types."""
        replicas = self.pool.replicas if self.pool is not None else ()
        return {
            "state": self.state,
            "required": self.is_required,
            "ready_replicas": sum(replica.is_serving for replica in replicas),
            "replicas": len(replicas),
        }

    def describe(self) -> dict[str, Any]:
        """For `GET /models`, JSON types."""
        entry, spec = self.known.entry, self.spec
        snapshot = self.pool.snapshot() if self.pool is not None else None
        error = self.failure.code if self.failure else None
        if snapshot is not None and snapshot["error"] and not self.is_ready:
            error = snapshot["error"]["code"]
        return {
            "model_id": self.model_id,
            "family": entry.family,
            "task": spec.task if spec else self.known.task,
            "description": entry.description,
            "state": self.state,
            "required": self.is_required,
            "progress": snapshot["progress"] if snapshot and self.state == "loading" else None,
            "reloading": self._describe_reload(),
            "error": load_failure(error, self.model_id) if error else None,
            "labels": list(spec.labels) if spec else None,
            "input": {"height": spec.input_height, "width": spec.input_width} if spec else None,
            "device": spec.device if spec else None,
            "runtime": spec.runtime if spec else None,
            "precision": spec.precision if spec else None,
            "runtime_reason": spec.runtime_reason if spec else None,
            "layouts": dict(spec.layouts) if spec else {},
            "queue_length": snapshot["queue_length"] if snapshot else 0,
            "slots": snapshot["slots"] if snapshot else {"total": 0, "free": 0},
            "replicas": snapshot["replicas"] if snapshot else [],
            "counters": snapshot["counters"] if snapshot else {},
        }

    def _describe_reload(self) -> dict[str, Any] | None:
        """None while there is none. ``waiting``: for memory; ``loading``; ``draining``: the old pool."""
        if self.incoming is not None:
            return {"state": "loading", "progress": self.incoming.snapshot()["progress"]}
        if self.reloading is not None:
            return {"state": "waiting", "progress": None}
        return {"state": "draining", "progress": None} if self.pool is not None and self.closing else None


def progress_text(pool: Pool) -> str:
    """`` (download, 45 %)`` for the message of a model that is loading, or nothing."""
    progress = pool.snapshot()["progress"] or {}
    stage, done, total = progress.get("stage"), progress.get("done_bytes"), progress.get("total_bytes")
    if not stage:
        return ""
    return f" ({stage}, {100 * done // total} %)" if done is not None and total else f" ({stage})"


def health_of(models: Collection[Served], *, is_stopping: bool) -> dict[str, Any]:
    """``{"status": "ready" | "loading" | "unavailable" | "draining", "models": {...}}``: required models decide,
    others that are loaded or failed are only listed."""
    required = [served for served in models if served.is_required]
    if is_stopping:
        status = "draining"
    elif all(served.is_ready for served in required):
        status = "ready"
    elif any(served.state in ("failed", "crash_looping") for served in required):
        status = "unavailable"
    else:
        status = "loading"
    shown = (served for served in models if served.is_required or served.state != "unloaded")
    return {"status": status, "models": {served.model_id: served.health() for served in shown}}
