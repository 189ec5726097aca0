from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from models.checkpoint import TASKS, read_checkpoint
from models.errors import WeightsMismatchError
from models.heads import post_processor
from tests.models.networks import row, save_yolo, shapes
from tests.models.parity import Library, assert_same, loaded, predictions

# One of each family whose layers the other tests do not run: yolov8, yolo11, yolo26 and RT-DETR have tests of their own.
ARCHITECTURES = {
    "yolov5n.yaml": (0.3, False),
    "yolov9t.yaml": (0.3, False),
    "yolov10n.yaml": (0.1, True),
    "yolo12n.yaml": (0.3, False),
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_family_answers_like_the_library(tmp_path: Path, architecture: str) -> None:
    confidence, end2end = ARCHITECTURES[architecture]
    weights = save_yolo(tmp_path / "random.pt", architecture)
    image = shapes()["portrait"]
    expected = Library(weights, end2end)(image, conf=confidence)
    assert len(expected) >= 5
    model = loaded(weights, end2end=end2end, max_batch_size=1)
    assert_same(predictions(model.infer([row(image, confidence=confidence)]))[0], expected)


@pytest.fixture(scope="module", params=["yolov10n.yaml", "yolo26n.yaml"])
def two_headed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_yolo(tmp_path_factory.mktemp("two") / "random.pt", request.param)


@pytest.mark.parametrize("end2end", [True, False, None])
def test_of_two_heads_the_one_that_is_asked_for_is_used_or_else_the_librarys(
    two_headed: Path, end2end: bool | None
) -> None:
    assert read_checkpoint(two_headed, None, end2end).traits.end2end == bool(end2end)
    image = shapes()["portrait"]
    library = Library(two_headed, end2end)  # None: what predict does where nobody says `nms`
    found = predictions(
        loaded(two_headed, end2end=end2end, max_batch_size=1).infer([row(image, confidence=0.1, iou=0.1)])
    )[0]
    assert len(found) >= 5
    assert_same(found, library(image, conf=0.1, iou=0.1))
    # An end-to-end head does not care about overlaps.
    assert (len(found) == len(library(image, conf=0.1, iou=0.9))) == bool(end2end)


@pytest.mark.parametrize("end2end", [True, None, False])
def test_weights_without_one_of_the_heads_are_not_served_as_if_they_had_it(
    tmp_path: Path, end2end: bool | None
) -> None:
    import torch

    stored = torch.load(save_yolo(tmp_path / "two.pt", "yolo26n.yaml"), weights_only=False)
    stored["model"].end2end = True
    stored["model"].model[-1].fuse()  # as the library's own fusing leaves it: the other branch is gone
    torch.save(stored, tmp_path / "one.pt")
    if end2end is False:
        with pytest.raises(WeightsMismatchError, match="only an end-to-end head"):
            loaded(tmp_path / "one.pt", end2end=end2end)
    else:
        image = shapes()["portrait"]
        found = predictions(
            loaded(tmp_path / "one.pt", end2end=end2end, max_batch_size=1).infer([row(image, confidence=0.1)])
        )
        assert_same(found[0], Library(tmp_path / "one.pt")(image, conf=0.1))


@pytest.mark.parametrize("architecture", ["yolov8n.yaml", "yolov8n-cls.yaml"])
def test_an_end_to_end_head_that_is_not_there_is_refused(tmp_path: Path, architecture: str) -> None:
    import torch
    from ultralytics import YOLO

    network = YOLO(architecture, verbose=False).model
    torch.save({"model": network}, tmp_path / "one.pt")
    with pytest.raises(WeightsMismatchError, match="no end-to-end head") as caught:
        read_checkpoint(tmp_path / "one.pt", 64, end2end=True)
    assert (caught.value.code, caught.value.permanent) == ("weights_mismatch", True)
    assert not read_checkpoint(tmp_path / "one.pt", 64, end2end=False).traits.end2end


def test_every_head_that_is_read_has_something_that_reads_it(tmp_path: Path) -> None:
    traits = read_checkpoint(save_yolo(tmp_path / "random.pt"), None).traits
    for head, task in TASKS.items():
        post_processor(replace(traits, head=head, task=task, keypoint_shape=(17, 3)))
    with pytest.raises(ValueError, match="Unknown"):
        post_processor(replace(traits, head="Unknown", task="vqa"))
