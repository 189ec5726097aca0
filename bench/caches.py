"""What a server has answered without computing it, read from its counters: none of it in an honest measurement."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bench.serving import get

_LINE = re.compile(
    r"^(?P<name>\w*(?:cache|dedup|follow)\w*_total)(?P<labels>\{.*\})? (?P<value>\S+)$", re.MULTILINE
)


def read_hits(url: str, before: Mapping[str, float] | None = None) -> dict[str, float]:
    """Counters of hits in caches and of identical requests computed once, by name and labels, as they are now or
    since `before`. {} means that the server counts no such thing or nothing happened yet: a counter with labels is
    there from its first event on."""
    page = get(url + "/metrics").text
    now = {
        found["name"] + (found["labels"] or ""): float(found["value"])
        for found in _LINE.finditer(page)
        if "miss" not in (found["labels"] or "")
    }
    return {name: value - (before or {}).get(name, 0.0) for name, value in now.items()}
