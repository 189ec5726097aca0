"""Whether the hosts that weights come from can be reached, where something would have to come from there."""

from __future__ import annotations

import ast
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.catalogue import CATALOGUE, CatalogueEntry
from server.addresses import host_of, without_secrets
from server.doctor.finding import Finding, ok, problem, warning
from server.doctor.probe import Answer
from server.settings import Settings

HUB = "https://huggingface.co"
RELEASE = "https://github.com/ultralytics/assets/releases/latest/download"
PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
_DOWNLOAD_SOURCES = ("ultralytics", "hub")


@dataclass(frozen=True, slots=True)
class Question:
    """One address to ask, for the sake of `model_id`, which `is_required` at start or not."""

    url: str
    model_id: str
    is_required: bool


def questions(settings: Settings, missing: Sequence[tuple[CatalogueEntry, bool]]) -> list[Question]:
    """One for each host: for the first of the `missing` models (with: whether it loads at start), else for any that
    a request may ask for. None if downloads are off."""
    if settings.offline:
        return []
    wanted = sorted(missing, key=lambda each: not each[1])
    if settings.on_demand == "all":
        wanted += [(CATALOGUE["yolov8n"], False), (CATALOGUE["blip-vqa-base"], False)]
    asked: dict[str, Question] = {}
    for entry, is_required in wanted:
        if entry.source in _DOWNLOAD_SOURCES and entry.source not in asked:
            asked[entry.source] = Question(address(settings, entry), entry.model_id, is_required)
    return list(asked.values())


def address(settings: Settings, entry: CatalogueEntry) -> str:
    """What a download of the model's weights asks for first."""
    if entry.source == "ultralytics":
        return f"{(settings.yolo_weights_url or release_address()).rstrip('/')}/{entry.weights}"
    revision = (entry.revision or "main").replace("/", "%2F")
    return f"{(settings.hf_endpoint or HUB).rstrip('/')}/api/models/{entry.weights}/revision/{revision}"


def release_address(library: Path | None = None) -> str:
    """The library's own release, from its source: importing it takes seconds. `library` is its folder."""
    spec = None if library else importlib.util.find_spec("ultralytics")
    if spec is not None and spec.origin is not None:
        library = Path(spec.origin).parent
    try:
        tree = ast.parse((library / "utils" / "downloads.py").read_text("utf-8")) if library else None
    except (OSError, SyntaxError):
        tree = None
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.FunctionDef) and node.name == "attempt_download_asset":
            names = [argument.arg for argument in node.args.args][-len(node.args.defaults) :]
            values = [
                str(each.value) if isinstance(each, ast.Constant) else "" for each in node.args.defaults
            ]
            defaults = dict(zip(names, values, strict=True))
            return f"https://github.com/{defaults.get('repo', '')}/releases/download/{defaults.get('release', '')}"
    return RELEASE


def check_network(
    settings: Settings, asked: Sequence[Question], answer: Answer, environment: Mapping[str, str]
) -> list[Finding]:
    """What the hosts answered."""
    if settings.offline:
        return [ok("network", "offline = true: nothing is downloaded, no host was asked")]
    if not asked:
        return [ok("network", "nothing has to be downloaded, no host was asked")]
    said = answer.facts.get("answers", {})
    findings = [_check(question, said.get(question.url, {}), answer.failure) for question in asked]
    return [*findings, *_proxies(environment)]


def _check(question: Question, said: Mapping[str, object], failure: str) -> Finding:
    host, status = host_of(question.url), said.get("status")
    if isinstance(status, int) and status < 400:
        return ok("host", f"{host} answers (asked for {question.model_id})")
    if isinstance(status, int):
        text, remedy = f"{host} answers {status} when asked for {question.model_id}", _status_remedy(status)
    else:
        why = without_secrets(str(said.get("failure") or failure or "no answer"))
        text = f"{host} cannot be reached: {why}"
        remedy = (
            "HTTPS_PROXY= your proxy; yolo_weights_url or HF_ENDPOINT= a mirror; or ENGINE_OFFLINE=true with weights "
            f"from `inference-engine pull {question.model_id}` elsewhere"
        )
    if question.is_required:
        return problem("host", f"{text}; {question.model_id} loads at start and is not here", remedy)
    return warning("host", f"{text}; models that are not here cannot be loaded", remedy)


def _status_remedy(status: int) -> str:
    if status == 407:
        return "HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT, as the proxy wants it"
    if status in (401, 403):
        return "HF_TOKEN= a token that may read it, or ask who runs the proxy or mirror"
    if status == 404:
        return "correct yolo_weights_url, HF_ENDPOINT or the model's name: the host does not have it"
    return "try again later, or yolo_weights_url or HF_ENDPOINT= a mirror"


def _proxies(environment: Mapping[str, str]) -> list[Finding]:
    given = [name for upper in PROXIES for name in (upper, upper.lower()) if environment.get(name)]
    if not given:
        return []
    return [ok("proxy", ", ".join(f"{name}={without_secrets(environment[name])}" for name in given))]


def argument(asked: Sequence[Question]) -> str:
    """For the probe."""
    return json.dumps([question.url for question in asked])
