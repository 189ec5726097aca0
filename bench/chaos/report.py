"""Results as a table: `python -m bench.chaos.report bench/results/chaos.jsonl` prints the last result of each run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: one line per check, runs in the order of their last result."""
    lines = ["| run | N | check | asked for | measured | |", "|---|---|---|---|---|---|"]
    for result in _latest(results):
        name, number = _title(result), result.get("requests", "")
        for check in result["checks"]:
            verdict = "" if check["passed"] else "**missed**"
            lines.append(
                f"| {name} | {number} | {check['name']} | {check['bound']} | {check['value']} | {verdict} |"
            )
            name = number = ""
    return "\n".join(lines)


def _latest(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    last: dict[tuple[str, str], dict[str, Any]] = {}
    for result in results:
        key = result["bench"], str(result.get("model"))
        last.pop(key, None)
        last[key] = result
    return list(last.values())


def _title(result: dict[str, Any]) -> str:
    options = ", ".join(f"{name} {value}" for name, value in result["settings"].items())
    load = ", ".join(f"{averages[0]:.1f}" for averages in result["load_average"])
    return f"{result['bench']}: {result.get('model', 'fake model')}; {options}; load average {load}"


def main() -> None:
    """Entry point."""
    lines = Path(sys.argv[1]).read_text().splitlines()
    print(table([json.loads(line) for line in lines]))


if __name__ == "__main__":
    main()
