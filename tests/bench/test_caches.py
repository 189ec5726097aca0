"""Reading from a server's counters whether anything was answered without computing it."""

from __future__ import annotations

import pytest
from _pytest.monkeypatch import MonkeyPatch

from bench import caches

PAGE = """# TYPE engine_response_cache_total counter
engine_response_cache_total{model="m",outcome="hit"} 3.0
engine_response_cache_total{model="m",outcome="miss"} 40.0
engine_deduplicated_total{model="m"} 2.0
engine_requests_total{model="m",status="200"} 45.0
engine_response_cache_created{model="m",outcome="hit"} 1.7e+09
"""


class _Page:
    text = PAGE


@pytest.fixture(autouse=True)
def _server(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "get", lambda url: _Page())


def test_hits_and_shared_runs_are_counted_and_misses_are_not() -> None:
    assert caches.read_hits("http://engine") == {
        'engine_response_cache_total{model="m",outcome="hit"}': 3.0,
        'engine_deduplicated_total{model="m"}': 2.0,
    }


def test_only_what_happened_since_counts() -> None:
    before = {'engine_response_cache_total{model="m",outcome="hit"}': 3.0}
    since = caches.read_hits("http://engine", before)
    assert since['engine_response_cache_total{model="m",outcome="hit"}'] == 0.0
    assert since['engine_deduplicated_total{model="m"}'] == 2.0
