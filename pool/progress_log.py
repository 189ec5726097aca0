"""What the log says of a model that loads: each stage when it begins, a download every so often. Front process."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

log = logging.getLogger(__name__)

INTERVAL = 10.0
"""Seconds between two lines about the same stage."""


class ProgressLog:
    """Hears every report of one model's workers; replicas that load at once report the same stages."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._last: Mapping[str, Any] = {}
        self._started_at = 0.0
        self._said_at = 0.0

    def note(self, fields: Mapping[str, Any]) -> None:
        """One report, of which `stage`, `done_bytes` and `total_bytes` are read."""
        now = time.monotonic()
        stage, stage_before = fields.get("stage"), self._last.get("stage")
        if stage != stage_before:
            if "done_bytes" in self._last:
                self._say(f"{stage_before} ended", self._last, now)
            self._started_at = now
            self._say(f"{stage} started", fields, now)
        elif now - self._said_at >= INTERVAL:
            self._say(f"{stage} goes on", fields, now)
        self._last = dict(fields)

    def _say(self, event: str, fields: Mapping[str, Any], now: float) -> None:
        self._said_at = now
        sizes = {name: fields[name] for name in ("done_bytes", "total_bytes") if name in fields}
        seconds = round(now - self._started_at, 1)
        log.info("%s: %s", self._name, event, extra={"model_id": self._name, **sizes, "seconds": seconds})
