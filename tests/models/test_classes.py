from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch

from models.classes import Classifier, ClassifyOptions
from models.errors import InvalidParameterError, UnsupportedModelError
from models.spec import Spec
from server.resize import center_crop
from tests.models.networks import NUM_CLASSES, Image, PlainRow, save_yolo, shapes
from tests.models.parity import Library, answered, assert_neighbours_do_not_matter, loaded

ARCHITECTURES = ("yolov8n-cls.yaml", "yolo26n-cls.yaml")
SIZE = 224


@pytest.fixture(scope="module", params=ARCHITECTURES)
def weights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("classify") / "random.pt"
    return save_yolo(path, request.param, train_args={"imgsz": SIZE})


def cropped(image: Image, **params: Any) -> PlainRow:
    """As the front fills the slot of a classifier."""
    pixels = np.empty((SIZE, SIZE, 3), np.uint8)
    center_crop(image, pixels)
    return PlainRow(pixels, {"width": image.shape[1], "height": image.shape[0], **params})


def test_the_likeliest_classes_are_the_librarys_alone_and_in_company(weights: Path) -> None:
    model, library = loaded(weights), Library(weights)
    for image in shapes().values():
        expected = library.results(image, imgsz=SIZE).probs
        found = answered(model.infer([cropped(image)]))[0]["top"]
        assert [each["class_id"] for each in found] == expected.top5
        assert [each["confidence"] for each in found] == pytest.approx(expected.top5conf.tolist(), abs=1e-4)
        assert [each["label"] for each in found] == [f"class {i}" for i in expected.top5]
        everything = answered(model.infer([cropped(image, top=1000)]))[0]["top"]
        by_class = {each["class_id"]: each["confidence"] for each in everything}
        assert [by_class[i] for i in range(NUM_CLASSES)] == pytest.approx(expected.data.tolist(), abs=1e-4)

    def assert_alike(together: Any, alone: Any, one: PlainRow) -> None:
        by_class = [
            {each["class_id"]: each["confidence"] for each in side["top"]} for side in (together, alone)
        ]
        assert by_class[0] == pytest.approx(by_class[1], abs=1e-3)

    rows = [cropped(image, top=NUM_CLASSES) for image in shapes().values()]
    assert_neighbours_do_not_matter(model, rows, assert_alike)
    spec = Spec.from_json(model.spec)
    assert (spec.task, spec.resize, spec.input_height) == ("classify", "center_crop", SIZE)


def test_every_row_gets_as_many_classes_as_it_asks_for() -> None:
    raw = torch.tensor([[0.2, 0.5, 0.3], [0.7, 0.1, 0.2]])
    options = [ClassifyOptions(1), ClassifyOptions(2)]
    first, second = Classifier("abc").fragments(raw.numpy(), options)
    assert [first, second] == Classifier("abc").fragments(raw, options)
    assert orjson.loads(first) == {"top": [{"label": "b", "class_id": 1, "confidence": 0.5}]}  # type: ignore[arg-type]
    assert [each["label"] for each in orjson.loads(second)["top"]] == ["a", "c"]  # type: ignore[arg-type]


def test_a_row_that_is_not_finite_fails_alone() -> None:
    raw = torch.tensor([[math.nan, 0.5], [0.7, 0.3]])
    bad, good = Classifier("ab").fragments(raw, [ClassifyOptions(), ClassifyOptions()])
    assert isinstance(bad, FloatingPointError)
    assert isinstance(good, bytes)


@pytest.mark.parametrize("top", [0, -1, "many", None, math.inf])
def test_an_impossible_number_is_refused(top: object) -> None:
    with pytest.raises(InvalidParameterError):
        ClassifyOptions.from_params({"top": top})


def test_a_classifier_with_preparations_of_its_own_is_not_served(tmp_path: Path) -> None:
    from ultralytics.data.augment import classify_transforms

    save_yolo(tmp_path / "plain.pt", "yolov8n-cls.yaml", train_args={"imgsz": SIZE})
    stored = torch.load(tmp_path / "plain.pt", weights_only=False)
    for name, transforms in {
        "fine": classify_transforms(SIZE),
        "mean": classify_transforms(SIZE, mean=(0.5, 0.5, 0.5)),
        "bicubic": classify_transforms(SIZE, interpolation="BICUBIC"),
        "other size": classify_transforms(SIZE * 2, mean=(0.5, 0.5, 0.5)),
    }.items():
        stored["model"].transforms = transforms
        torch.save(stored, tmp_path / "stored.pt")
        if name in ("fine", "other size"):
            loaded(tmp_path / "stored.pt", max_batch_size=1)
        else:
            with pytest.raises(UnsupportedModelError, match="prepared by"):
                loaded(tmp_path / "stored.pt", max_batch_size=1)
