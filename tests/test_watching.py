"""The dashboard and the alerts under deploy/ ask for metrics that there are, by labels that these have."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pool.replica import State
from server.errors import KINDS
from server.metrics_table import described
from server.model_metrics import LOAD_OUTCOMES, MODEL_STATES, RELOAD_OUTCOMES, USUAL_REASONS
from server.results import STAGES

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboard.json"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
CONFIG = DEPLOY / "prometheus" / "prometheus.yml"

OF_PROMETHEUS = {"instance", "job"}
"""Labels that a scrape puts on every sample."""
NAME = re.compile(r"\b((?:engine|process)_[a-z_]+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!=|!~|=)\s*"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
VALUES: Mapping[tuple[str, str], set[str]] = {
    ("engine_stage_seconds", "stage"): set(STAGES),
    ("engine_requests_total", "code"): {"", *KINDS},
    ("engine_requests_total", "status"): {"200"},
    ("engine_requests_total", "model"): {""},
    ("engine_model_state", "state"): set(MODEL_STATES),
    ("engine_replicas", "state"): {state.value for state in State},
    ("engine_worker_deaths_total", "reason"): set(USUAL_REASONS),
    ("engine_model_loads_total", "outcome"): set(LOAD_OUTCOMES),
    ("engine_model_reloads_total", "outcome"): set(RELOAD_OUTCOMES),
    ("engine_vision_cache_total", "outcome"): {"hit", "miss"},
    ("engine_response_cache_total", "outcome"): {"hit", "miss"},
}
"""What a label may be asked to be."""


def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text("utf-8"))


def panels() -> list[Any]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def rules() -> list[Any]:
    return [rule for group in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"] for rule in group["rules"]]


def queries() -> Iterator[tuple[str, str]]:
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for rule in rules():
        yield rule["alert"], rule["expr"]


def own_labels(name: str) -> set[str] | None:
    """Labels of the metric that has this series; None if there is none."""
    table = described()
    if name in table:
        return None if table[name].kind == "histogram" else set(table[name].labels)
    base, _, part = name.rpartition("_")
    if base in table and table[base].kind == "histogram" and part in ("bucket", "count", "sum"):
        return {*table[base].labels, *({"le"} if part == "bucket" else ())}
    return None


@pytest.mark.parametrize(("where", "query"), list(queries()))
def test_a_query_asks_for_a_metric_that_there_is_by_labels_that_it_has(where: str, query: str) -> None:
    asked = list(NAME.finditer(query))
    if where in ("EngineAbsent", "EngineDown"):  # of Prometheus' own
        assert query in ('absent(up{job="inference-engine"})', 'up{job="inference-engine"} == 0')
        return
    assert asked
    common: set[str] = set()
    for name, matchers in (match.groups() for match in asked):
        labels = own_labels(name)
        assert labels is not None, name
        common |= labels
        for label, operator, value in MATCHER.findall(matchers or ""):
            assert label in labels | OF_PROMETHEUS, (name, label)
            if value.startswith("$") or label in OF_PROMETHEUS:
                continue
            base = re.sub("_(bucket|count|sum)$", "", name)
            assert operator in ("=", "!=", "=~")
            assert set(value.split("|")) <= VALUES[base, label], (name, label, value)
    for grouping in GROUPING.findall(query):
        assert {label.strip() for label in grouping.split(",")} <= common | OF_PROMETHEUS


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: str(panel["title"]))
def test_a_legend_names_labels_that_its_query_keeps(panel: Any) -> None:
    for target in panel["targets"]:
        named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        grouping = GROUPING.findall(target["expr"])
        kept = {label.strip() for labels in grouping for label in labels.split(",")}
        if not grouping:
            kept = OF_PROMETHEUS | set().union(
                *(own_labels(match[1]) or set() for match in NAME.finditer(target["expr"]))
            )
        assert named <= kept, target["expr"]


def test_the_dashboard_is_one_that_grafana_takes_as_it_is() -> None:
    board = dashboard()
    assert board["schemaVersion"] >= 38 and board["id"] is None, "Grafana 10, and a new one there"
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,40}", board["uid"]) and board["title"]
    assert "__inputs" not in board, "an import would ask for something"
    sources = [v for v in board["templating"]["list"] if v["type"] == "datasource"]
    assert [(v["name"], v["query"]) for v in sources] == [("datasource", "prometheus")]
    source = {"type": "prometheus", "uid": "${datasource}"}
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            assert variable["datasource"] == source
            (match,) = NAME.finditer(variable["query"]["query"])
            asked = variable["query"]["query"].rstrip(")").rpartition(", ")[2]
            assert asked in (own_labels(match[1]) or set()) | OF_PROMETHEUS
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert len({panel["title"] for panel in board["panels"]}) == len(ids)
    for panel in panels():
        assert panel["datasource"] == source and panel["targets"] and panel["description"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        assert all(target["datasource"] == source for target in panel["targets"])
        assert panel["type"] in ("timeseries", "stat", "heatmap")
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(board["panels"])))
    assert used - {"__rate_interval", "__all"} == {v["name"] for v in board["templating"]["list"]}


def test_no_panel_covers_another_and_every_row_has_some() -> None:
    everything = dashboard()["panels"]
    places = [(panel["title"], panel["gridPos"]) for panel in everything]
    for (one, a), (other, b) in itertools.combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or above, f"{one} and {other}"
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for _, place in places)
    kinds = [panel["type"] for panel in everything]
    rows = [panel["title"] for panel in everything if panel["type"] == "row"]
    assert rows == [
        "Traffic", "Latency by stage", "Batching and queue", "Replicas and restarts",
        "Memory, GPUs and the front", "Refusals",
    ]  # fmt: skip
    assert kinds[0] == "row" and kinds[-1] != "row" and ("row", "row") not in itertools.pairwise(kinds)


def test_every_metric_of_ours_is_on_the_dashboard() -> None:
    text = " ".join(query for _, query in queries())
    shown = {re.sub("_(bucket|count|sum)$", "", match[1]) for match in NAME.finditer(text)} | {
        match[1] for match in NAME.finditer(text)
    }
    ours = {name for name in described() if name.startswith("engine_")}
    assert ours <= shown


def test_every_alert_says_what_is_wrong_and_what_to_do_and_is_tested_by_name() -> None:
    tests = (ALERTS.parent / "alerts_test.yml").read_text("utf-8")
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "remedy"}
        assert tests.count(rule["alert"]) >= 2, "once quiet, once firing"


def test_the_scrape_of_the_example_has_the_job_that_the_alerts_ask_for() -> None:
    config = yaml.safe_load(CONFIG.read_text("utf-8"))
    (job,) = config["scrape_configs"]
    asked = {
        value
        for _, query in queries()
        for label, _, value in MATCHER.findall(query)
        if label == "job" and "$" not in value
    }
    assert {job["job_name"]} == asked
    assert (job["metrics_path"], config["rule_files"]) == ("/metrics", [ALERTS.name])


def promtool(*arguments: object) -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed")
    command = [found, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_takes_configuration_and_alerts_and_they_fire_when_they_should() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", ALERTS)
    promtool("check", "config", CONFIG)
    promtool("test", "rules", ALERTS.parent / "alerts_test.yml")


def test_promtool_can_read_every_query_of_the_dashboard(tmp_path: Path) -> None:
    exprs = [
        target["expr"].replace("$__rate_interval", "1m") for panel in panels() for target in panel["targets"]
    ]
    recorded = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(exprs)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}), "utf-8")
    assert f"{len(exprs)} rules found" in promtool("check", "rules", file)
