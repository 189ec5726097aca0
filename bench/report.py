"""Results as tables and plots, in bench/README.md and the top README.

    python -m bench.report                       # bench/results/*.json, the newest of each kind
    python -m bench.report --results FOLDER --check   # changes nothing; 1 if it would

Each result is one JSON document as the benches print it. Between the markers of a README everything is replaced;
what is not measured is not there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.svg import line_plot, share_bars
from bench.tables import TABLES, figures_table, machine_line

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS = HERE / "results"
PLOTS = HERE / "plots"
BEGIN, END = "<!-- bench -->", "<!-- end of bench -->"

Result = Mapping[str, Any]


class MarkersMissingError(Exception):
    """A README has no pair of markers to write between."""


def newest(folder: Path) -> dict[str, Result]:
    """By kind the result that was measured last. Files that hold no result are none of ours and are left alone."""
    found: dict[str, Result] = {}
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text())
        if not isinstance(result, dict) or "measured_at" not in result:
            continue
        kind = kind_of(result)
        if kind not in found or result["measured_at"] >= found[kind]["measured_at"]:
            found[kind] = result
    return found


def kind_of(result: Result) -> str:
    """The bench; for memory and Ray Serve which models, and for a run of further peers which."""
    if result["bench"] in ("memory", "ray_serve"):
        return f"{result['bench']} {result['model']}"
    if result["bench"] == "peers" and "noop" not in result:
        return f"peers: {', '.join(result['settings']['peers'])}"
    return str(result["bench"])


def detailed(results: Mapping[str, Result]) -> str:
    """Markdown for bench/README.md: every table, the plots, and what each was measured on."""
    parts = [figures_table(results)]
    for kind, result in results.items():
        if table := TABLES.get(str(result["bench"])):
            parts.append(f"### {kind[0].upper()}{kind[1:]}\n\n{table(result)}\n\n{machine_line(result)}")
    for path in plots(results):
        parts.append(f"![{path.stem.replace('-', ' ')}](plots/{path.name})")
    return "\n\n".join(parts)


def brief(results: Mapping[str, Result]) -> str:
    """Markdown for the top README: the figures, one plot, the machine."""
    parts = [figures_table(results)]
    parts += [
        f"![{path.stem.replace('-', ' ')}](bench/plots/{path.name})"
        for path in plots(results)
        if path.stem != "stages"
    ]
    if results:
        parts.append(machine_line(max(results.values(), key=lambda result: str(result["measured_at"]))))
    return "\n\n".join(parts)


def plots(results: Mapping[str, Result]) -> dict[Path, str]:
    """File to SVG, for what was measured."""
    sweep = results.get("sweep")
    if sweep is None:
        return {}
    clients = [(row["clients"], row["per_second"]) for row in sweep["by_clients"]]
    names = ("p50", "p90", "p99")
    latencies = {
        name: [(row["rate"], 1000 * row["latency_seconds"][name]) for row in sweep["by_load"]]
        for name in names
    }
    stages = {
        f"{row['share']:.0%} of peak": {
            name: value for name, value in row["mean_stage_milliseconds"].items() if name != "total"
        }
        for row in sweep["by_load"]
    }
    return {
        PLOTS / "throughput.svg": line_plot("Throughput", "clients", "images/s", {"engine": clients}),
        PLOTS / "latency.svg": line_plot("Latency, Poisson arrivals", "requests/s", "ms", latencies),
        PLOTS / "stages.svg": share_bars("Share of each stage in a request's time", stages),
    }


def between_markers(text: str, new: str) -> str:
    """`text` with `new` between its markers. Raises MarkersMissingError."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise MarkersMissingError(f"{BEGIN} and {END} are needed")
    return f"{before}{BEGIN}\n{new}\n{END}{after}"


def outputs(results: Mapping[str, Result]) -> dict[Path, str]:
    """Every file and what it should hold."""
    texts = {HERE / "README.md": detailed(results), ROOT / "README.md": brief(results)}
    written = {path: between_markers(path.read_text(), new) for path, new in texts.items()}
    return {**written, **plots(results)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write, or with `--check` tell whether something would change."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args(arguments)
    stale = {
        path: text
        for path, text in outputs(newest(args.results)).items()
        if not path.exists() or path.read_text() != text
    }
    for path, text in stale.items():
        print(f"{path.relative_to(ROOT)}{' would change' if args.check else ''}", file=sys.stderr)
        if not args.check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    return int(args.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
