from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from models.answers import Answers, no_progress
from models.catalogue import CATALOGUE, operator_entry
from models.errors import InvalidParameterError, UnsupportedModelError
from models.spec import Spec
from models.weights import PACKAGE
from models.yolo import YoloModel, load
from tests.models.networks import NUM_CLASSES, SIZE, Image, PlainRow, photo, resized, row, save_yolo
from tests.models.parity import Library, assert_same, predictions

NUM_THREADS = 1
MAX_BATCH_SIZE = 4


def images() -> dict[str, Image]:
    return {
        "portrait": photo("bus.jpg"),
        "landscape": photo("zidane.jpg"),
        "square": photo("zidane.jpg")[:700, 300:1000],
        "3x5": photo("bus.jpg")[400:405, 100:103],
        "20x30": resized(photo("bus.jpg"), 20, 30),
        "thin": resized(photo("zidane.jpg"), 900, 2),
        "huge": resized(photo("bus.jpg"), 4500, 6000),
    }


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_yolo(tmp_path_factory.mktemp("yolo") / "random.pt")


@pytest.fixture(scope="module")
def end2end_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_yolo(tmp_path_factory.mktemp("yolo26") / "random26.pt", "yolo26n.yaml")


def config(path: Path, **more: Any) -> dict[str, Any]:
    limits = {"max_batch_size": MAX_BATCH_SIZE, "num_threads": NUM_THREADS}
    return {**operator_entry("random", path).to_config(), **limits, **more}


@pytest.fixture(scope="module")
def model(weights: Path) -> YoloModel:
    return load(config(weights), "cpu", no_progress)


@pytest.fixture(scope="module")
def end2end_model(end2end_weights: Path) -> YoloModel:
    return load(config(end2end_weights, end2end=True), "cpu", no_progress)


@pytest.fixture(scope="module")
def library(weights: Path) -> Library:
    return Library(weights)


@pytest.fixture(scope="module")
def end2end_library(end2end_weights: Path) -> Library:
    return Library(end2end_weights, end2end=True)


@pytest.mark.parametrize("name", images())
def test_boxes_are_the_librarys(model: YoloModel, library: Library, name: str) -> None:
    image = images()[name]
    expected = library(image, conf=0.2, iou=0.6)
    assert_same(predictions(model.infer([row(image, confidence=0.2, iou=0.6)]))[0], expected)
    if name in ("portrait", "landscape", "huge"):
        assert len(expected) >= 20  # or the comparison says nothing


@pytest.mark.parametrize("name", images())
def test_boxes_of_an_end_to_end_head_are_the_librarys(
    end2end_model: YoloModel, end2end_library: Library, name: str
) -> None:
    image = images()[name]
    expected = end2end_library(image, conf=0.4)
    assert_same(predictions(end2end_model.infer([row(image, confidence=0.4)]))[0], expected)
    if name in ("portrait", "landscape", "huge"):
        assert len(expected) >= 20


def test_the_defaults_are_the_librarys(model: YoloModel, library: Library) -> None:
    image = photo("zidane.jpg")
    assert_same(predictions(model.infer([row(image)]))[0], library(image))


@pytest.mark.parametrize("which", ["model", "end2end_model"])
def test_an_answer_does_not_depend_on_its_batch_mates(which: str, request: pytest.FixtureRequest) -> None:
    each_model: YoloModel = request.getfixturevalue(which)
    rows = [row(image, confidence=0.3) for image in images().values()]
    alone = [predictions(each_model.infer([one]))[0] for one in rows]
    orders = ([0, 1, 2, 3], [6, 0, 5], [4, 3, 2, 1], [1, 0], [0, 0, 0, 0], [5, 6, 4, 0])
    for order in orders:
        together = predictions(each_model.infer([rows[index] for index in order]))
        for index, found in zip(order, together, strict=True):
            longest = max(rows[index].params["width"], rows[index].params["height"])
            assert_same(found, alone[index], confidence=1e-3, corner=2e-5 * longest)


def test_every_row_has_its_own_parameters(model: YoloModel, library: Library) -> None:
    image = photo("bus.jpg")
    classes = sorted({each["class_id"] for each in library(image, conf=0.3)})[:3]
    wanted: list[dict[str, Any]] = [
        {"confidence": 0.6, "iou": 0.2},
        {"confidence": 0.3, "iou": 0.9, "max_detections": 1000},
        {"confidence": 0.3, "iou": 0.5, "max_detections": 7},
        {"confidence": 0.3, "iou": 0.5, "classes": classes},
    ]
    names = {"confidence": "conf", "iou": "iou", "max_detections": "max_det", "classes": "classes"}
    together = predictions(model.infer([row(image, **params) for params in wanted]))
    for found, params in zip(together, wanted, strict=True):
        expected = library(image, **{names[key]: value for key, value in params.items()})
        assert expected
        assert_same(found, expected)
    assert len(together[2]) == 7
    assert {each["class_id"] for each in together[3]} <= set(classes)


def test_an_end_to_end_head_filters_classes_and_counts_like_the_library(
    end2end_model: YoloModel, end2end_library: Library
) -> None:
    image = photo("bus.jpg")
    classes = sorted({each["class_id"] for each in end2end_library(image, conf=0.3)})[:3]
    rows = [row(image, confidence=0.3, classes=classes), row(image, confidence=0.3, max_detections=5)]
    filtered, few = predictions(end2end_model.infer(rows))
    assert_same(filtered, end2end_library(image, conf=0.3, classes=classes))
    assert_same(few, end2end_library(image, conf=0.3, max_det=5))


def test_an_end_to_end_head_gives_as_many_boxes_as_the_config_allows(
    end2end_weights: Path, end2end_library: Library
) -> None:
    model = load(
        config(end2end_weights, end2end=True, max_detections=500, max_batch_size=1), "cpu", no_progress
    )
    image = photo("bus.jpg")
    found = predictions(model.infer([row(image, confidence=0.0, max_detections=500)]))[0]
    assert len(found) == 500
    assert_same(found, end2end_library(image, conf=0.0, max_det=500))


@pytest.mark.parametrize("classes", [[], [NUM_CLASSES + 5]])
def test_classes_that_nothing_has_find_nothing(model: YoloModel, classes: list[int]) -> None:
    assert predictions(model.infer([row(photo("bus.jpg"), classes=classes)])) == [[]]


def test_predictions_are_sorted_labelled_finite_and_inside_the_image(model: YoloModel) -> None:
    for image in images().values():
        found = predictions(model.infer([row(image, confidence=0.3)]))[0]
        confidences = [each["confidence"] for each in found]
        assert confidences == sorted(confidences, reverse=True)
        for each in found:
            assert list(each) == ["label", "class_id", "confidence", "box"]
            assert each["label"] == f"class {each['class_id']}"
            assert 0 <= each["box"]["x1"] <= each["box"]["x2"] <= image.shape[1]
            assert 0 <= each["box"]["y1"] <= each["box"]["y2"] <= image.shape[0]


def test_bad_parameters_fail_their_row_alone(model: YoloModel) -> None:
    image = photo("bus.jpg")
    good = row(image, confidence=0.4)
    bad = [row(image, confidence="much"), row(image, iou=2.0), PlainRow(good.pixels, {"width": 3})]
    answers = model.infer([bad[0], good, *bad[1:]])
    assert predictions(Answers([answers.fragments[1]])) == predictions(model.infer([good]))
    for index in (0, 2, 3):
        error = answers.fragments[index]
        assert isinstance(error, InvalidParameterError)
        assert error.code == "invalid_parameter"
    assert all(isinstance(each, InvalidParameterError) for each in model.infer(bad).fragments)


def test_pixels_of_another_shape_are_refused(model: YoloModel) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        model.infer([PlainRow(np.zeros((1, 1, 3), np.uint8), {"width": 1, "height": 1})])


def test_stages_are_timed(model: YoloModel) -> None:
    timings = model.infer([row(photo("bus.jpg"))]).timings
    assert set(timings) == {"infer", "post"}
    assert all(seconds > 0 for seconds in timings.values())


def test_the_spec_comes_from_the_checkpoint(model: YoloModel, weights: Path) -> None:
    spec = Spec.from_json(orjson.loads(orjson.dumps(model.spec)))
    assert model.slot_shape == spec.slot_shape == (SIZE, SIZE, 3)
    assert spec.labels == tuple(f"class {i}" for i in range(NUM_CLASSES))
    assert (spec.model_id, spec.family, spec.task, spec.resize) == ("random", "yolo", "detect", "letterbox")
    assert (spec.device, spec.runtime, spec.precision) == ("cpu", "torch", "fp32")
    assert spec.weights_sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_the_input_size_can_be_chosen_and_is_a_multiple_of_the_stride(
    weights: Path, library: Library
) -> None:
    model = load(config(weights, imgsz=[170, 300], max_batch_size=1), "cpu", no_progress)
    assert model.slot_shape == (192, 320, 3)
    image = photo("zidane.jpg")
    found = predictions(model.infer([row(image, 192, 320, confidence=0.4)]))[0]
    assert_same(found, library(image, imgsz=[192, 320], conf=0.4))


def test_loading_reports_its_stages_and_sets_the_threads(weights: Path) -> None:
    import torch

    stages: list[str] = []
    load(
        config(weights, num_threads=NUM_THREADS + 1, max_batch_size=1),
        "cpu",
        lambda step: stages.append(step["stage"]),
    )
    assert stages == ["load", "warm_up"]
    assert torch.get_num_threads() == NUM_THREADS + 1
    torch.set_num_threads(NUM_THREADS)


@pytest.mark.parametrize(
    ("network", "architecture", "named"),
    [
        ("WorldModel", "yolov8n-world.yaml", "WorldDetect"),
        ("YOLOESegModel", "yoloe-11n-seg.yaml", "YOLOESegment"),
        ("SemanticSegmentationModel", "yolo26n-sem.yaml", "SemanticSegment"),
    ],
)
def test_another_task_is_refused_for_good(
    tmp_path: Path, network: str, architecture: str, named: str
) -> None:
    import torch
    from ultralytics.nn import tasks

    path = tmp_path / "other.pt"
    torch.save({"model": getattr(tasks, network)(architecture, verbose=False)}, path)
    with pytest.raises(UnsupportedModelError, match=named) as caught:
        load(config(path), "cpu", no_progress)
    assert (caught.value.code, caught.value.permanent) == ("unsupported_model", True)


def test_the_demo_that_ships_with_the_package_answers_like_the_library() -> None:
    import cv2

    entry = CATALOGUE["shapes-detect"]
    model = load({**entry.to_config(), "max_batch_size": MAX_BATCH_SIZE}, "cpu", no_progress)
    height, width, _ = model.slot_shape
    reference = Library(PACKAGE / entry.weights)
    samples = sorted((PACKAGE / "demo" / "samples").glob("*.jpg"))[:MAX_BATCH_SIZE]
    assert samples
    drawn = [np.ascontiguousarray(np.asarray(cv2.imread(str(path)))[..., ::-1]) for path in samples]
    together = predictions(model.infer([row(image, height, width, confidence=0.3) for image in drawn]))
    for image, found in zip(drawn, together, strict=True):
        expected = reference(image, imgsz=[height, width], conf=0.3)
        assert expected
        assert_same(found, expected)
