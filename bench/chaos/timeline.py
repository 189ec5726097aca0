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


@dataclass
class Timeline:
    """One model's."""

    changes: list[Change] = field(default_factory=list)
    load_seconds: list[float] = field(default_factory=list)
    deaths: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    """Lines of the access log per request id."""

    def recoveries(self, killed: Sequence[tuple[str, int, float]]) -> list[float]:
        """Seconds from each kill to the moment at which the replica served again, with whatever worker."""
        seconds = []
        for _, pid, at in killed:
            deaths = [c for c in self.changes if c.after == "dead" and c.pid == pid and c.time >= at - 0.05]
            if not deaths:
                continue
            ready = (
                c.time
                for c in self.changes
                if c.index == deaths[0].index and c.after == "ready" and c.before == "starting"
                and c.time > deaths[0].time
            )  # fmt: skip
            if (moment := next(ready, None)) is not None:
                seconds.append(moment - at)
        return seconds

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
    elif found := _CHANGE.fullmatch(event):
        moment = datetime.fromisoformat(line["timestamp"]).timestamp()
        index, before, after = found.groups()
        timeline.changes.append(Change(moment, int(index), before, after, line.get("pid")))
    elif _LOADED.fullmatch(event):
        timeline.load_seconds.append(line["load_seconds"])
    elif ": worker ended: " in event:
        timeline.deaths[event.rpartition(": ")[2]] += 1
