"""The small form of `bench.slowloris`: good clients are answered, bad ones are gone in time, nothing is left of them."""

from __future__ import annotations

from bench import slowloris

SLACK = 2.0
"""For a busy machine. Those who do not read have a test of their own in test_http_slow.py."""
MAX_BYTES = 400_000


def test_dripping_clients_are_thrown_out_and_cost_others_no_answer() -> None:
    options = ["--connections", "60", "--pairs", "1", "--seconds", "7", "--rate", "10", "--warmup", "0.5"]
    result = slowloris.run(slowloris.parser().parse_args(options))
    (pair,) = result["pairs"]
    assert all(pair["ended"][kind] >= 2 for kind in ("silent", "head", "body"))
    late = pair["latest_end_after_deadline_seconds"]
    assert set(late) == {"silent", "head", "body"} and max(late.values()) < SLACK
    assert pair["bytes_per_connection"] < MAX_BYTES
    assert pair["descriptors"]["after"] <= pair["descriptors"]["before"] < pair["descriptors"]["beside"]
