from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from models.spec import Task
from server.errors import RequestFailedError
from server.v2.binary import reply_with, to_bytes
from server.v2.outputs import COLUMNS, Output, check_names, make_outputs, names_of


def found(**more: Any) -> dict[str, Any]:
    return {
        "label": "cät",
        "class_id": 3,
        "confidence": 0.25,
        "box": {"x1": 1.5, "y1": 2, "x2": 3, "y2": 4},
        **more,
    }


def outputs(task: Task, *answers: dict[str, Any]) -> dict[str, Output]:
    made = make_outputs(names_of(task), task, [orjson.dumps(answer) for answer in answers])
    for output in made:
        assert np.prod(output.shape) == len(output.values), output
        declared = COLUMNS[task][output.name].shape if output.name != "json" else (-1,)
        assert len(declared) == len(output.shape)
        assert all(length in (-1, is_so) for length, is_so in zip(declared, output.shape, strict=True))
    return {output.name: output for output in made}


def predictions(*each: dict[str, Any]) -> dict[str, Any]:
    return {"predictions": list(each)}


def test_objects_of_several_images_follow_each_other() -> None:
    made = outputs(
        "detect", predictions(found(), found(class_id=4)), predictions(), predictions(found(class_id=5))
    )
    assert made["boxes"] == Output("boxes", "FP32", [3, 4], [1.5, 2, 3, 4] * 3)
    assert made["class_ids"] == Output("class_ids", "INT64", [3], [3, 4, 5])
    assert made["labels"] == Output("labels", "BYTES", [3], ["cät"] * 3)
    assert made["scores"] == Output("scores", "FP32", [3], [0.25] * 3)
    assert made["num_detections"] == Output("num_detections", "INT64", [3], [2, 0, 1])
    assert orjson.loads(made["json"].values[2]) == predictions(found(class_id=5))


def test_an_image_with_nothing_in_it_has_tensors_without_rows() -> None:
    tasks: list[Task] = ["detect", "segment", "pose", "obb"]
    for task in tasks:
        made = outputs(task, predictions())
        assert made["boxes"].shape == [0, 4] and made["num_detections"].values == [0]
    assert outputs("pose", predictions())["keypoints"].shape == [0, 0, 3]


def test_masks_are_json() -> None:
    run_lengths = {"size": [2, 3], "counts": "01"}
    made = outputs(
        "segment", predictions(found(polygon=[[1, 2], [3, 4]]), found(mask=run_lengths), found(polygon=[]))
    )
    assert [orjson.loads(text) for text in made["masks"].values] == [[[1, 2], [3, 4]], run_lengths, []]


def test_keypoints_without_a_confidence_have_one() -> None:
    points = [{"x": 1, "y": 2, "confidence": 0.5}, {"x": 3, "y": 4}]
    made = outputs("pose", predictions(found(keypoints=points), found(keypoints=points)))
    assert made["keypoints"] == Output("keypoints", "FP32", [2, 2, 3], [1, 2, 0.5, 3, 4, 1.0] * 2)


def test_corners_and_angle_of_turned_boxes() -> None:
    made = outputs("obb", predictions(found(corners=[[1, 2], [3, 4], [5, 6], [7, 8]], angle=0.5)))
    assert made["corners"] == Output("corners", "FP32", [1, 4, 2], list(range(1, 9)))
    assert made["angle"] == Output("angle", "FP32", [1], [0.5])


def test_classes_have_a_row_for_each_image() -> None:
    top = [
        {"label": "a", "class_id": 1, "confidence": 0.75},
        {"label": "b", "class_id": 0, "confidence": 0.25},
    ]
    made = outputs("classify", {"top": top}, {"top": top})
    assert made["class_ids"] == Output("class_ids", "INT64", [2, 2], [1, 0, 1, 0])
    assert made["labels"].values == ["a", "b"] * 2


def test_answers_have_a_row_for_each_image_and_a_column_for_each_prompt() -> None:
    assert outputs("vqa", {"answer": "no", "prompt": "?"})["answer"] == Output(
        "answer", "BYTES", [1, 1], ["no"]
    )
    two = {"answers": [{"prompt": "a", "answer": "x"}, {"prompt": "b", "answer": "y"}]}
    assert outputs("vqa", two, two)["answer"] == Output("answer", "BYTES", [2, 2], ["x", "y", "x", "y"])
    assert outputs("caption", {"caption": "a cat"})["answer"].values == ["a cat"]
    assert outputs("caption", {"captions": [{"prompt": "a", "caption": "a b"}]})["answer"].values == ["a b"]


def test_an_output_that_there_is_none_of_is_named_with_those_that_there_are() -> None:
    check_names(["json", "boxes"], "detect")
    with pytest.raises(RequestFailedError) as failed:
        check_names(["boxes", "keypoints"], "detect")
    assert "keypoints is no output of this model; there are boxes, scores" in failed.value.message
    with pytest.raises(RequestFailedError, match="invalid_tensor"):
        check_names(["boxes", "boxes"], "detect")


def test_numbers_and_texts_behind_the_json_are_little_endian() -> None:
    assert to_bytes(Output("a", "INT64", [1], [258])) == b"\x02\x01" + bytes(6)
    assert to_bytes(Output("a", "FP32", [1], [1.5])) == b"\x00\x00\xc0\x3f"
    assert to_bytes(Output("a", "BYTES", [2], ["é", ""])) == b"\x02\x00\x00\x00\xc3\xa9\x00\x00\x00\x00"
    assert to_bytes(Output("a", "BYTES", [0], [])) == b""


def test_json_and_binary_outputs_may_stand_beside_each_other() -> None:
    made = [Output("a", "INT64", [1], [1]), Output("b", "BYTES", [1], ["x"]), Output("c", "FP32", [0], [])]
    reply = reply_with({"model_name": "m"}, made, {"b", "c"})
    length = int(reply.headers["inference-header-content-length"])
    assert orjson.loads(reply.body[:length])["outputs"] == [
        {"name": "a", "datatype": "INT64", "shape": [1], "data": [1]},
        {"name": "b", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}},
        {"name": "c", "datatype": "FP32", "shape": [0], "parameters": {"binary_data_size": 0}},
    ]
    assert reply.body[length:] == b"\x01\x00\x00\x00x"
    assert reply.headers["content-type"] == "application/octet-stream"
    plain = reply_with({}, made, ())
    assert "inference-header-content-length" not in plain.headers
    assert plain.headers["content-type"] == "application/json"
