from __future__ import annotations

import json

from server.doctor.finding import Section, ok, problem, warning
from server.doctor.report import Report, plain_lines

FINE = Section("Port", [ok("port", "free")])
WORSE = Section("GPU", [warning("knob", "slow", "unset it"), problem("driver", "too old", "update it")])


def test_only_problems_fail() -> None:
    assert Report([FINE], 1.0).exit_code == 0
    assert Report([Section("GPU", WORSE.findings[:1])], 1.0).exit_code == 0
    assert Report([FINE, WORSE], 1.0).exit_code == 1


def test_every_finding_is_a_line_with_its_remedy_below_and_a_summary_at_the_end() -> None:
    assert plain_lines(Report([FINE, WORSE], 1.25)) == [
        "Port", "  ok       free", "", "GPU", "  warning  slow", "           -> unset it", "  problem  too old",
        "           -> update it", "", "1 problem, 1 warning (1.2 s)",
    ]  # fmt: skip
    assert plain_lines(Report([], 0.5)) == ["no problems, no warnings (0.5 s)"]


def test_json_holds_all_of_it() -> None:
    document = json.loads(Report([FINE, WORSE], 1.0).to_json())
    assert (document["status"], document["counts"]) == ("problem", {"ok": 1, "warning": 1, "problem": 1})
    assert document["sections"][1]["findings"][1] == {
        "name": "driver", "status": "problem", "text": "too old", "remedy": "update it",
    }  # fmt: skip
    assert json.loads(Report([FINE], 1.0).to_json())["status"] == "ok"
