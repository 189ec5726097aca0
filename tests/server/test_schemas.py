from __future__ import annotations

import json
import tracemalloc
from typing import Any

import orjson
import pytest

from models.spec import Spec
from server.errors import RequestFailedError
from server.schemas import (
    MAX_PROMPTS,
    PARAMETERS,
    DetectParameters,
    SegmentParameters,
    TextParameters,
    check_classes,
    check_prompts,
    check_work,
    parse_json,
    parse_parameters,
)


def refusal(function: Any, *arguments: Any, **options: Any) -> tuple[str, str]:
    with pytest.raises(RequestFailedError) as caught:
        function(*arguments, **options)
    return caught.value.code, caught.value.message


def test_a_full_body_is_read() -> None:
    body = parse_json(
        b'{"model_id":"m","prompt":"what?","image_base64":"QQ==","parameters":{"confidence":1}}'
    )
    assert (body.model_id, body.prompt, body.image_base64, body.image_url) == ("m", "what?", "QQ==", None)
    assert parse_parameters("detect", body.parameters, is_text=False) == DetectParameters(confidence=1.0)


@pytest.mark.parametrize("body", [
    b'{"a":1,}', b'{"a":1}x', b'{"a"', b"\xef\xbb\xbf{}", '{"a":1}'.encode("utf-16"), b'{"a":"\xe9"}', b'{"a":"\x00"}',
    b'{"a":NaN}', b'{"a":-}', b"{'a':1}", b"[" * 1025 + b"]" * 1025, b"[" * 250_000, b"\xff\xd8\xff", b"{" * 100_000,
    b'{"a":Infinity}', b'{"a":01}', b"nul",
])  # fmt: skip
def test_what_is_not_json_is_invalid_json(body: bytes) -> None:
    assert refusal(parse_json, body)[0] == "invalid_json"


@pytest.mark.parametrize("body", [b"null", b"[]", b'"x"', b"1", b"true", b"[[[]]]"])
def test_json_that_is_no_object_is_an_invalid_request(body: bytes) -> None:
    assert refusal(parse_json, body)[0] == "invalid_request"


@pytest.mark.parametrize(("fields", "code", "name"), [
    ({"image_base64": "A"}, "invalid_parameter", "model_id"), ({"model_id": 1, "image_base64": "A"}, "invalid_parameter", "model_id"),
    ({"model_id": None, "image_base64": "A"}, "invalid_parameter", "model_id"),
    ({"model_id": "m", "image_base64": ["A"]}, "invalid_parameter", "image_base64"),
    ({"model_id": "m", "image_base64": [1, 2]}, "invalid_parameter", "image_base64"),
    ({"model_id": "m", "image_url": {"x": 1}}, "invalid_parameter", "image_url"),
    ({"model_id": "m", "image_url": "x", "prompt": True}, "invalid_parameter", "prompt"),
    ({"model_id": "m", "image_url": "x", "parameters": []}, "invalid_parameter", "parameters"),
    ({"model_id": "m", "image_url": "x", "parameters": None}, "invalid_parameter", "parameters"),
    ({"model_id": "m", "image_url": "x", "model": "y"}, "unknown_field", "model"),
    ({"model_id": "m", "images": ["http://x"] * 10_000}, "unknown_field", "images"),
    ({"model_id": "m"}, "exactly_one_image_source", ""),
    ({"model_id": "m", "image_url": "x", "image_base64": "A"}, "exactly_one_image_source", ""),
])  # fmt: skip
def test_a_wrong_field_is_named(fields: dict[str, Any], code: str, name: str) -> None:
    found, message = refusal(parse_json, orjson.dumps(fields))
    assert found == code
    assert name in message


@pytest.mark.parametrize(("name", "values"), [
    ("confidence", ["0.5", True, [], {}, None, -1, 2, 1e308, -5e-324, 10**30, 1.0000001]),
    ("iou", ["0.5", True, None, -0.1, 1.1]),
    ("max_detections", [0, -1, 1001, 2**31, 2**63, 1.0, "1", True, None, [1]]),
    ("classes", [1, "1", [], [True], ["1"], [-1], [2**40], [[1]], [1.0], [None], list(range(1001)), ["x"] * 100_000]),
])  # fmt: skip
def test_a_wrong_detect_option_is_named(name: str, values: list[Any]) -> None:
    for value in values:
        if name == "classes" and value is None:
            continue
        code, message = refusal(parse_parameters, "detect", {name: value}, is_text=False)
        assert (code, f"parameters.{name} " in message) == ("invalid_parameter", True), value


@pytest.mark.parametrize("value", [0, 1, 0.0, -0.0, 5e-324, 0.999])
def test_a_confidence_from_0_to_1_is_taken(value: float) -> None:
    assert parse_parameters("detect", {"confidence": value}, is_text=False) == DetectParameters(
        confidence=value
    )


def test_options_of_another_task_are_invalid_and_options_of_none_are_unknown() -> None:
    for task in PARAMETERS:
        for name in ("confidence", "num_beams", "top", "foo"):
            if name not in PARAMETERS[task].model_fields:
                expected = "unknown_field" if name == "foo" else "invalid_parameter"
                assert refusal(parse_parameters, task, {name: 1}, is_text=False)[0] == expected


def test_text_options_are_converted() -> None:
    fields = {"confidence": "0.5", "iou": "1", "max_detections": "7", "classes": "1,2"}
    expected = DetectParameters(confidence=0.5, iou=1.0, max_detections=7, classes=[1, 2])
    assert parse_parameters("detect", fields, is_text=True) == expected
    assert parse_parameters("vqa", {"num_beams": "3"}, is_text=True) == TextParameters(num_beams=3)


def test_segment_takes_the_options_of_boxes_and_the_form_of_masks() -> None:
    for is_text in (True, False):
        for masks in ("polygon", "rle"):
            parsed = parse_parameters("segment", {"masks": masks}, is_text=is_text)
            assert parsed == SegmentParameters(masks=masks)
        for wrong in ("", "RLE", "picture"):
            code, message = refusal(parse_parameters, "segment", {"masks": wrong}, is_text=is_text)
            assert (code, "masks " in message) == ("invalid_parameter", True)
    assert refusal(parse_parameters, "segment", {"masks": True}, is_text=False)[0] == "invalid_parameter"
    both = parse_parameters("segment", {"masks": "rle", "confidence": "0.5"}, is_text=True)
    assert both == SegmentParameters(masks="rle", confidence=0.5)
    spec = Spec("m", "yolo", "segment", "letterbox", 64, 64, ("a", "b"), "cpu", "torch", "fp32", "")
    assert refusal(check_classes, SegmentParameters(classes=[2]), spec)[0] == "invalid_parameter"


def test_only_segment_takes_the_form_of_masks() -> None:
    for task in PARAMETERS:
        if task != "segment":
            assert refusal(parse_parameters, task, {"masks": "rle"}, is_text=False)[0] == "invalid_parameter"


@pytest.mark.parametrize("fields", [
    {"confidence": ""}, {"confidence": "nan"}, {"confidence": "inf"}, {"confidence": "1e999"}, {"confidence": "0,5"},
    {"max_detections": "1.5"}, {"max_detections": "9" * 400}, {"classes": ""}, {"classes": "1,"}, {"classes": "1;2"},
])  # fmt: skip
def test_wrong_text_options_are_named(fields: dict[str, str]) -> None:
    code, message = refusal(parse_parameters, "detect", fields, is_text=True)
    assert (code, f" {next(iter(fields))} " in message) == ("invalid_parameter", True)


def test_the_name_of_an_unknown_field_is_cut_short() -> None:
    code, message = refusal(parse_parameters, "detect", {"x" * 10_000: 1}, is_text=False)
    assert code == "unknown_field"
    assert len(message) < 300


@pytest.mark.parametrize(("task", "prompt", "is_fine"), [
    ("vqa", "what colour?", True), ("vqa", None, True), ("vqa", "", True), ("vqa", "  ", True),
    ("vqa", "x" * 1000, True), ("vqa", "x" * 1001, False), ("vqa", "a\x00b", False), ("vqa", "🦊" * 500, True),
    ("caption", None, True), ("caption", "a photo of", True), ("detect", None, True), ("detect", "what?", False),
])  # fmt: skip
def test_prompts_are_for_the_tasks_that_read_them(task: Any, prompt: str | None, is_fine: bool) -> None:
    if is_fine:
        check_prompts(task, prompt, None)
        check_prompts(task, None, None if prompt is None else [prompt])
    else:
        for given, name in (((prompt, None), "prompt"), ((None, ["a", prompt]), "prompts")):
            code, message = refusal(check_prompts, task, *given)
            assert (code, f" {name} " in message) == ("invalid_parameter", True)


def test_prompts_are_at_most_32_and_not_beside_a_prompt() -> None:
    for count in (1, MAX_PROMPTS):
        check_prompts("vqa", None, ["a"] * count)
    for given in ((None, []), (None, ["a"] * (MAX_PROMPTS + 1)), ("a", ["a"]), ("", ["a"])):
        code, message = refusal(check_prompts, "vqa", *given)
        assert (code, " prompts " in message) == ("invalid_parameter", True)


@pytest.mark.parametrize(
    "prompts", ["a", [], [1], [None], ["a", ["b"]], {"a": 1}, ["a"] * 33, ["a"] * 30_000, 7]
)
def test_prompts_of_a_body_are_a_short_list_of_texts(prompts: Any) -> None:
    body = orjson.dumps({"model_id": "m", "image_url": "x", "prompts": prompts})
    code, message = refusal(parse_json, body)
    assert (code, " prompts " in message) == ("invalid_parameter", True)


def test_beams_count_as_more_prompts() -> None:
    for num_prompts, num_beams in ((32, 1), (16, 2), (6, 5), (0, 5)):
        check_work(TextParameters(num_beams=num_beams), ["a"] * num_prompts)
    check_work(TextParameters(num_beams=5), None)
    for num_prompts, num_beams in ((17, 2), (7, 5)):
        code, message = refusal(check_work, TextParameters(num_beams=num_beams), ["a"] * num_prompts)
        assert (code, " prompts " in message) == ("invalid_parameter", True)


def test_a_list_of_prompts_is_read_in_order() -> None:
    assert parse_json(b'{"model_id":"m","prompts":["b","","a"],"image_url":"x"}').prompts == ["b", "", "a"]


def test_class_ids_must_be_the_models() -> None:
    spec = Spec("m", "yolo", "detect", "letterbox", 64, 64, ("a", "b"), "cpu", "torch", "fp32", "")
    check_classes(DetectParameters(classes=[0, 1]), spec)
    check_classes(DetectParameters(), spec)
    assert refusal(check_classes, DetectParameters(classes=[2]), spec)[0] == "invalid_parameter"


MIB = 1 << 20


@pytest.mark.parametrize("body", [
    b'{"parameters":{"classes":[' + b"[]," * (4 * MIB) + b"[]]}}", b'{"parameters":{"classes":[' + b"1," * (4 * MIB) + b"1]}}",
    b'{"a":[' + (b"9" * 4000 + b",") * 2000 + b"1]}", b'{"a":[' + (b"[" * 190 + b"]" * 190 + b",") * 20_000 + b"1]}",
    orjson.dumps({f"f{i}": i for i in range(1_000_000)}), orjson.dumps({"model_id": "m", "prompts": ["a"] * MIB}),
    orjson.dumps({"model_id": "m", "image_base64": "A" * MIB, "parameters": {"classes": [1] * 50_000}}),
    orjson.dumps({"model_id": "m", "image_base64": "A" * MIB, "prompt": "a" * MIB}),
], ids=["lists", "numbers", "long numbers", "nested", "keys", "texts", "beside an image", "two images"])  # fmt: skip
def test_many_parts_are_refused_before_any_becomes_an_object(body: bytes) -> None:
    tracemalloc.start()
    try:
        assert refusal(parse_json, body)[0] == "invalid_request"
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


def test_a_body_may_be_as_long_as_its_fields_beside_a_large_image() -> None:
    fields = {
        "model_id": "m" * 64, "prompts": [",\U0001f98a" * 500] * MAX_PROMPTS, "parameters": {"classes": [99_999] * 1000},
        "image_base64": "data:image/png;base64," + "A/+b" * (4 * MIB),
    }  # fmt: skip
    for body in (json.dumps(fields).encode(), orjson.dumps(fields), json.dumps(fields, indent=4).encode()):
        assert parse_json(body).prompts == fields["prompts"]
    slashes = json.dumps({"model_id": "m", "image_base64": "/" * MIB}).replace("/", "\\/")
    assert parse_json(slashes.encode()).image_base64 == "/" * MIB, "as PHP writes them"
