from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from models.catalogue import CATALOGUE, index, operator_entry


def test_the_first_four_models_are_known_by_name() -> None:
    assert {"shapes-detect", "yolov8n", "yolov8s", "blip-vqa-base"} <= set(CATALOGUE)


def test_only_what_ships_in_the_package_loads_at_start() -> None:
    for entry in CATALOGUE.values():
        assert entry.load_at_start == (entry.source == "package"), entry.model_id


def test_every_task_has_every_size_of_the_newer_families() -> None:
    for family in ("yolov8", "yolo11", "yolo26"):
        for suffix, task in (
            ("", "detect"),
            ("-seg", "segment"),
            ("-pose", "pose"),
            ("-obb", "obb"),
            ("-cls", "classify"),
        ):
            for size in "nsmlx":
                assert CATALOGUE[f"{family}{size}{suffix}"].task == task
    assert {"yolo12x", "yolov5nu", "yolov9c-seg", "yolov10b", "rtdetr-l"} <= set(CATALOGUE)


def test_what_the_library_would_fetch_is_what_it_publishes() -> None:
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES

    fetched = {entry.weights for entry in CATALOGUE.values() if entry.source == "ultralytics"}
    assert fetched <= GITHUB_ASSETS_NAMES


def test_an_entry_is_found_under_its_own_name_and_names_a_factory() -> None:
    for model_id, entry in CATALOGUE.items():
        assert entry.model_id == model_id
        module, function = entry.factory.split(":")
        assert callable(getattr(import_module(module), function))


def test_an_entrys_config_is_json() -> None:
    for entry in CATALOGUE.values():
        assert json.loads(json.dumps(entry.to_config())) == entry.to_config()


def test_an_operators_entry_points_to_the_file_and_its_hash() -> None:
    entry = operator_entry("mine", Path("weights") / "mine.pt", sha256="ab" * 32, imgsz=320)
    config = entry.to_config()
    assert (config["source"], config["weights"]) == ("file", "weights/mine.pt")
    assert (config["sha256"], config["imgsz"]) == ("ab" * 32, 320)
    assert entry.factory == "models.guarded:load_yolo"
    assert operator_entry("b", Path("b"), family="blip", task="vqa").factory == "models.guarded:load_blip"


def test_the_catalogue_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        CATALOGUE["other"] = CATALOGUE["yolov8n"]  # type: ignore[index]


def test_two_models_cannot_have_the_same_name() -> None:
    with pytest.raises(ValueError, match="yolov8n"):
        index([CATALOGUE["yolov8n"], CATALOGUE["yolov8n"]])


@pytest.mark.parametrize(
    "module",
    ["models.catalogue", "models.spec", "models.weights", "models.yolo", "models.blip", "models.errors"],
)
def test_importing_a_module_leaves_the_heavy_libraries_out(module: str) -> None:
    heavy = [
        "torch",
        "torchvision",
        "ultralytics",
        "transformers",
        "huggingface_hub",
        "httpx",
        "cv2",
        "pool",
        "server",
    ]
    program = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
