from __future__ import annotations

import hashlib
from pathlib import Path

from server.doctor.finding import Finding
from server.doctor.weights import check_stored, concerned, read_stored
from server.settings import Settings
from server.table import known_models
from tests.server.doctor.facts import statuses
from tests.server.doctor.machine import settings_of

BODY = b"PK\x03\x04 and more"
SHA256 = hashlib.sha256(BODY).hexdigest()


def check(settings: Settings, name: str) -> list[Finding]:
    known = known_models(settings)[name]
    return check_stored(known, read_stored(settings, known), settings.offline)


def own(tmp_path: Path, **table: object) -> Settings:
    return settings_of(models={"mine": {"weights": str(tmp_path / "mine.pt"), **table}})


def test_the_shipped_models_are_here_and_right() -> None:
    settings = settings_of()
    for name in ("shapes-detect", "shapes-vqa"):
        assert set(statuses(check(settings, name)).values()) == {"ok"}


def test_what_is_looked_at_is_what_loads_at_start_or_is_named(tmp_path: Path) -> None:
    settings = settings_of(load_at_start=("yolov8n",), models={"mine": {"weights": "x.pt"}})
    assert {each.entry.model_id for each in concerned(known_models(settings).values())} == {"yolov8n", "mine"}


def test_an_operators_file_is_compared_with_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "mine.pt").write_bytes(BODY)
    (found,) = check(own(tmp_path, sha256=SHA256), "mine")
    assert found.status == "ok" and "sha256 as given" in found.text
    (found,) = check(own(tmp_path, sha256="0" * 64), "mine")
    assert found.status == "problem" and SHA256 in found.text and "[models.mine] sha256" in found.remedy


def test_an_operators_file_that_is_missing_is_a_problem(tmp_path: Path) -> None:
    (found,) = check(own(tmp_path), "mine")
    assert found.status == "problem" and "mine.pt" in found.text


def test_a_folder_that_lacks_a_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "mine.pt").mkdir()
    (tmp_path / "mine.pt" / "config.json").write_text("{}")
    (found,) = check(own(tmp_path, family="blip"), "mine")
    assert found.status == "problem" and "model.safetensors" in found.text


def test_weights_that_everybody_may_replace_are_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "mine.pt"
    path.write_bytes(BODY)
    path.chmod(0o666)
    findings = check(own(tmp_path), "mine")
    assert statuses(findings) == {"weights": "ok", "weights_open": "warning"}
    assert findings[1].remedy == f"`chmod o-w {path}`"
    path.chmod(0o644)
    tmp_path.chmod(0o777)
    assert check(own(tmp_path), "mine")[1].remedy == f"`chmod o-w {tmp_path}`"
    tmp_path.chmod(0o1777)
    assert statuses(check(own(tmp_path), "mine")) == {"weights": "ok"}, "sticky, like the temporary folder"


def test_what_must_be_downloaded_is_said_and_offline_it_is_a_problem(tmp_path: Path) -> None:
    caches = {"ultralytics_cache_dir": tmp_path, "huggingface_hub_cache": tmp_path}
    at_start = settings_of(load_at_start=("yolov8n", "blip-vqa-base"), **caches)
    for name in ("yolov8n", "blip-vqa-base"):
        (found,) = check(at_start, name)
        assert found.status == "warning" and "at start" in found.text and f"pull {name}" in found.remedy
    listed = settings_of(models={"yolov8n": {"imgsz": 640}}, **caches)
    assert statuses(check(listed, "yolov8n")) == {"weights": "ok"}
    (found,) = check(settings_of(offline=True, load_at_start=("yolov8n",), **caches), "yolov8n")
    assert found.status == "problem" and "offline" in found.text
    (tmp_path / "yolov8n.pt").write_bytes(BODY)
    assert statuses(check(at_start, "yolov8n")) == {"weights": "ok"}
