from __future__ import annotations

import pytest

from server.doctor.finding import Finding, ok, problem, warning


def test_a_remedy_belongs_to_whatever_is_not_ok_and_to_nothing_else() -> None:
    assert [each.status for each in (ok("a", "b"), warning("a", "b", "c"), problem("a", "b", "c"))] == [
        "ok",
        "warning",
        "problem",
    ]
    for status, remedy in (("ok", "do it"), ("warning", ""), ("problem", "")):
        with pytest.raises(ValueError, match="remedy"):
            Finding("a", status, "b", remedy)  # type: ignore[arg-type]
