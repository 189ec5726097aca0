"""What the server's log says of its replicas."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.chaos.timeline import read


def line(second: float, event: str, **fields: object) -> str:
    return json.dumps({"event": event, "timestamp": f"1970-01-01T00:00:{second:09.6f}Z", **fields})


LINES = [
    line(1, "replica 0: starting -> ready", pid=10),
    line(1, "replica 1: starting -> ready", pid=11),
    "something else that was printed",
    line(2, "replica 0: busy -> dead", pid=10),
    line(2, "replica 0: worker ended: sigkill"),
    line(2.1, "replica 1: ready -> dead", pid=11),
    line(2.5, "replica 0: loaded", load_seconds=0.4),
    line(2.6, "replica 0: starting -> ready", pid=12),
    line(3, "replica 1: starting -> dead", pid=13),
    line(3.5, "request", request_id="a"),
    line(3.5, "request", request_id="a"),
]


def test_recoveries_gaps_deaths_and_answers(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("\n".join(LINES))
    timeline = read(log)
    (recovery,) = timeline.recoveries([("kill", 10, 1.9), ("kill", 11, 2.05), ("kill", 99, 2.0)])
    assert (recovery.seconds, recovery.load_seconds) == (pytest.approx(0.7), 0.4)
    ((start, end),) = timeline.gaps()
    assert (start, end) == (pytest.approx(2.1), pytest.approx(2.6))
    assert timeline.deaths == {"sigkill": 1}
    assert timeline.answers == {"a": 2}
