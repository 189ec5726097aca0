"""When replicas died and served again, and how often each request was answered: read from the server's own log."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

_CHANGE = re.compile(r"replica (\d+): (\w+) -> (\w+)")
_LOADED = re.compile(r"replica (\d+): loaded")


@dataclass(frozen=True)
class Change:
    """Replica `index` changed its state at `time` (`time.time` seconds); `pid` filled it before and at that moment."""

    time: float
    index: int
    before: str
    after: str
    pid: int | None


@dataclass(frozen=True)
class Recovery:
    """Seconds from a kill to the moment at which the replica served again, and those of them for loading the model."""

    seconds: float
    load_seconds: float


@dataclass
class Timeline:
    """One model's."""

    changes: list[Change] = field(default_factory=list)
    loads: list[tuple[float, int, float]] = field(default_factory=list)
    """Moment, replica and the seconds that its model took to load."""
    deaths: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    """Lines of the access log per request id."""
    refusals: list[float] = field(default_factory=list)
    """Seconds that the server itself took to say no because a queue was full."""

    def recoveries(self, killed: Sequence[tuple[str, int, float]]) -> list[Recovery]:
        """Of every kill after which the replica served again before it was hit another time."""
        found = (self._recovery(pid, at) for _, pid, at in killed)
        return [recovery for recovery in found if recovery is not None]

    def _recovery(self, pid: int, killed_at: float) -> Recovery | None:
        later = iter(self.changes)
        death = next(
            (c for c in later if c.after == "dead" and c.pid == pid and c.time > killed_at - 0.05), None
        )
        if death is None:
            return None
        mine = (c for c in later if c.index == death.index and c.after in ("ready", "dead"))
        ready = next(mine, None)
        if ready is None or ready.after == "dead":
            return None
        loads = [s for at, index, s in self.loads if index == death.index and death.time <= at <= ready.time]
        return Recovery(ready.time - killed_at, loads[-1]) if loads else None

    def gaps(self) -> list[tuple[float, float]]:
        """Spans, in `time.time` seconds, in which no replica served."""
        serving: set[int] = set()
        spans, since = [], None
        for change in self.changes:
            was_up = bool(serving)
            (serving.add if change.after in ("ready", "busy") else serving.discard)(change.index)
            if was_up and not serving:
                since = change.time
            elif serving and since is not None:
                spans.append((since, change.time))
                since = None
        return spans


def read(log: Path) -> Timeline:
    """Of a log in JSON."""
    timeline = Timeline()
    for text in log.read_text().splitlines():
        if text.startswith("{"):
            _note(timeline, json.loads(text))
    return timeline


def _note(timeline: Timeline, line: dict[str, Any]) -> None:
    event = line.get("event", "")
    if event == "request":
        timeline.answers[line["request_id"]] += 1
        if line.get("error_code") == "queue_full":
            timeline.refusals.append(line["duration_ms"] / 1000)
    elif found := _CHANGE.fullmatch(event):
        moment = datetime.fromisoformat(line["timestamp"]).timestamp()
        index, before, after = found.groups()
        timeline.changes.append(Change(moment, int(index), before, after, line.get("pid")))
    elif found := _LOADED.fullmatch(event):
        moment = datetime.fromisoformat(line["timestamp"]).timestamp()
        timeline.loads.append((moment, int(found.group(1)), line["load_seconds"]))
    elif ": worker ended: " in event:
        timeline.deaths[event.rpartition(": ")[2]] += 1
