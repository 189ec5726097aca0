from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.catalogue import CATALOGUE
from server.settings import Settings
from server.settings_load import SettingsError
from server.table import known_models


def settings(**fields: Any) -> Settings:
    return Settings(**fields)


def test_the_catalogue_is_known_and_loads_at_start_what_it_says() -> None:
    known = known_models(settings())
    assert known.keys() == CATALOGUE.keys()
    assert {name for name, model in known.items() if model.loads_at_start} == {
        name for name, entry in CATALOGUE.items() if entry.load_at_start
    }


def test_load_at_start_replaces_the_catalogues_word() -> None:
    known = known_models(settings(load_at_start=("yolov8n",)))
    assert [name for name, model in known.items() if model.loads_at_start] == ["yolov8n"]
    assert known["yolov8n"].is_listed
    assert not any(model.loads_at_start for model in known_models(settings(load_at_start=())).values())


def test_an_operators_weights_are_one_more_model() -> None:
    table = {
        "weights": "/w/mine.pt",
        "sha256": "a" * 64,
        "imgsz": 320,
        "replicas": 2,
        "description": "My own.",
    }
    known = known_models(settings(models={"mine": table}))["mine"]
    assert (known.entry.source, known.entry.weights, known.entry.sha256) == ("file", "/w/mine.pt", "a" * 64)
    assert (known.entry.family, known.entry.imgsz, known.replicas, known.entry.description) == (
        "yolo",
        320,
        2,
        "My own.",
    )
    assert known.task is None, "only the weights know"
    assert known.is_listed and not known.loads_at_start


def test_a_task_names_the_family() -> None:
    known = known_models(
        settings(models={"a": {"weights": "/w", "task": "vqa"}, "b": {"weights": "/w", "family": "blip"}})
    )
    assert (known["a"].entry.family, known["a"].task, known["a"].entry.factory) == (
        "blip",
        "vqa",
        "models.guarded:load_blip",
    )
    assert known["b"].entry.family == "blip"


def test_a_table_without_weights_is_about_the_catalogues_model() -> None:
    known = known_models(settings(replicas=1, models={"yolov8n": {"imgsz": 320, "load_at_start": True}}))
    entry = known["yolov8n"].entry
    assert (entry.imgsz, entry.source, entry.weights) == (320, "ultralytics", "yolov8n.pt")
    assert known["yolov8n"].loads_at_start and known["yolov8n"].replicas == 1
    assert known["yolov8n"].task == "detect"


def test_what_the_operator_says_of_weights_goes_to_who_loads_them() -> None:
    known = known_models(
        settings(
            models={
                "mine": {"weights": "/w/a.pt", "end2end": True, "task": "pose"},
                "yolo26n": {"end2end": False, "task": "segment"},
                "plain": {"weights": "/w/b.pt"},
            }
        )
    )
    for name, expected in (
        ("mine", ("pose", True)),
        ("yolo26n", ("segment", False)),
        ("plain", (None, None)),
    ):
        config = known[name].entry.to_config()
        assert (config["task"], config["end2end"]) == expected


def test_an_operators_weights_may_take_a_catalogues_name() -> None:
    known = known_models(settings(models={"yolov8n": {"weights": Path("/w/n.pt")}}))
    assert known["yolov8n"].entry.source == "file"


@pytest.mark.parametrize(("fields", "part"), [
    ({"models": {"mine": {"weights": "/w", "task": "vqa", "end2end": True}}}, "models.mine: end2end"),
    ({"models": {"blip-vqa-base": {"end2end": False}}}, "models.blip-vqa-base: end2end"),
    ({"models": {"mine": {}}}, "models.mine: weights are missing"), ({"load_at_start": ("nope",)}, "no model 'nope'"),
    ({"load_at_start": ("yolov8n", "yolov8s"), "max_loaded_models": 1}, "max_loaded_models = 1: 2 models"),
])  # fmt: skip
def test_models_that_cannot_be_are_refused_at_start(fields: dict[str, Any], part: str) -> None:
    with pytest.raises(SettingsError, match=part):
        known_models(settings(**fields))
