"""Which connection makes room for another, and how much may wait for clients that take nothing."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import generate_latest

from server import gate as gate_module
from server.gate import ENDING_INTERVAL, Gate
from server.metrics import Metrics
from server.receipt_settings import ReceiptSettings


class FakeConnection:
    """Counts how often it was ended; the loop tells the gate later, as it does in life."""

    def __init__(self) -> None:
        self.place: str | None = None
        self.transport = self
        self.num_aborts = 0

    def abort(self) -> None:
        self.num_aborts += 1


def make(max_connections: int) -> tuple[Gate, Metrics]:
    metrics = Metrics()
    return Gate(ReceiptSettings(), metrics, max_connections), metrics


def entered(gate: Gate, place: Any = None) -> Any:
    connection: Any = FakeConnection()
    assert gate.enter()
    gate.move(connection, place)
    return connection


def test_idle_ones_go_before_unfinished_ones_and_the_oldest_first() -> None:
    gate, metrics = make(4)
    unfinished, idle, later = entered(gate, "unfinished"), entered(gate, "idle"), entered(gate, "idle")
    busy = entered(gate)
    gate.move(idle, None)
    gate.move(idle, "idle")  # it was used: now it is the younger one
    order = (later, idle, unfinished)
    for number in range(len(order)):
        assert gate.enter()
        assert [each.num_aborts for each in order] == [1] * (number + 1) + [0] * (2 - number)
    assert not gate.enter(), "the only one left has a request under way"
    assert busy.num_aborts == 0
    page = generate_latest(metrics.registry).decode()
    for line in ('"idle"} 2.0', '"unfinished"} 1.0', '"refused"} 1.0'):
        assert f"engine_connections_closed_total{{reason={line}" in page


def test_who_is_still_being_refused_takes_nobodys_place() -> None:
    gate, _ = make(2)
    staying, leaving = entered(gate), entered(gate)
    assert not gate.enter()
    gate.num_refusing += 1  # as its connection does
    gate.leave(leaving)
    gate.move(staying, "idle")
    assert gate.enter()
    assert staying.num_aborts == 0


def test_who_has_left_leaves_room_and_no_trace() -> None:
    gate, _ = make(1)
    connection = entered(gate, "idle")
    gate.stalls(connection, 100)
    gate.leave(connection)
    assert gate.num_connections == 0
    assert gate.enter()
    assert connection.num_aborts == 0


def test_too_much_unsent_ends_who_has_stalled_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "MAX_UNSENT_BYTES", 100)
    gate, _ = make(10)
    first, second, third = (entered(gate) for _ in range(3))
    gate.stalls(first, 40)
    gate.stalls(second, 40)
    gate.stalls(first, 10)  # some was taken
    gate.stalls(third, 50)
    assert [each.num_aborts for each in (first, second, third)] == [0, 0, 0]
    gate.flows(second)
    gate.stalls(second, 45)
    assert [each.num_aborts for each in (first, second, third)] == [1, 0, 0]
    gate.stalls(second, 1000)
    assert [each.num_aborts for each in (first, second, third)] == [1, 0, 1]


def test_who_is_late_is_ended_one_after_another() -> None:
    gate, _ = make(4)
    delays = [gate.ending_delay(100.0) for _ in range(4)]
    assert delays[0] == 0.0
    assert delays == pytest.approx([ENDING_INTERVAL * number for number in range(4)], abs=1e-9)
    assert gate.ending_delay(200.0) == 0.0, "a while later nobody is in front"
