from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from server.errors import RequestFailedError
from server.v2 import tensors
from server.v2.tensors import Tensor, read_tensors


def body(*inputs: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"inputs": inputs, **fields}).encode()


def given(**fields: Any) -> dict[str, Any]:
    return {"name": "image", "shape": [1], "datatype": "BYTES", "data": ["x"], **fields}


def in_binary(size: Any, **fields: Any) -> dict[str, Any]:
    return {
        "name": "image",
        "shape": [1],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": size},
        **fields,
    }


def texts(raw: bytes, shape: tuple[int, ...] = (1,), most: int = 32) -> list[bytes | str]:
    return Tensor("image", "BYTES", shape, memoryview(raw), ()).texts(most)


def refused(text: bytes, num_json_bytes: int | None = None) -> tuple[str, str]:
    with pytest.raises(RequestFailedError) as failed:
        read_tensors(text, num_json_bytes)
    return failed.value.code, failed.value.message


def test_tensors_follow_each_other_behind_the_json() -> None:
    text = body(
        in_binary(6), given(name="prompt"), in_binary(3, name="pixels", shape=[1, 1, 1, 3], datatype="UINT8")
    )
    raw = struct.pack("<I2s", 2, b"ab")
    _, (image, prompt, pixels) = read_tensors(text + raw + b"\x01\x02\x03", len(text))
    assert image.texts(32) == [b"ab"]
    assert prompt.texts(32) == ["x"]
    assert bytes(pixels.octets()) == b"\x01\x02\x03"


@pytest.mark.parametrize(("text", "code"), [
    (b"[]", "invalid_request"), (b"{", "invalid_json"), (b"\xff", "invalid_json"), (b"{}", "invalid_parameter"), (body(), "invalid_parameter"),
    (body(*[given()] * 9), "invalid_parameter"), (body(given(shape=[-1])), "invalid_parameter"), (body(given(shape=[2**63])), "invalid_parameter"),
    (body(given(shape=[1] * 9)), "invalid_parameter"), (body(given(shape=["1"])), "invalid_parameter"), (body(given(shape=[1.0])), "invalid_parameter"),
    (body(given(name="x" * 129)), "invalid_parameter"), (body(given(), id="x" * 257), "invalid_parameter"), (body(given(), id=7), "invalid_parameter"),
    (body(given(), outputs=[{"name": "json"}] * 33), "invalid_parameter"), (body(given(data=None)), "invalid_tensor"),
    (body(given(data={"a": 1})), "invalid_tensor"), (body(given(parameters={"shared_memory_region": "r"})), "invalid_tensor"),
    (b'{"inputs":' + b"[" * 5000 + b"]" * 5000 + b"}", "invalid_json"),
    (b'{"inputs":[' + b",".join([b"[]"] * 70_000) + b"]}", "invalid_request"), (b'{"inputs":[' + b"1," * 1_300_001 + b"1]}", "invalid_request"),
])  # fmt: skip
def test_json_that_is_no_request_is_refused(text: bytes, code: str) -> None:
    assert refused(text)[0] == code


@pytest.mark.parametrize("size", [-1, 7, 2**70, True, "6", 6.0, [], None])
def test_a_size_that_is_a_lie_is_refused(size: Any) -> None:
    text = body(in_binary(size))
    code, message = refused(text + b"\x02\x00\x00\x00ab", len(text))
    assert (code, "image" in message) == ("invalid_tensor", True)


def test_bytes_that_belong_to_no_tensor_are_refused() -> None:
    text = body(in_binary(6))
    assert refused(text + b"\x02\x00\x00\x00abc", len(text)) == refused(text, len(text) + 1)
    assert refused(text, len(text) + 1)[0] == "invalid_parameter"
    assert refused(text + b"x" * 6, 10)[0] == "invalid_json"
    assert (
        refused(body(in_binary(6, data=["x"])) + b"x" * 6, len(body(in_binary(6, data=["x"]))))[0]
        == "invalid_tensor"
    )


@pytest.mark.parametrize(("raw", "shape"), [
    (b"", (1,)), (b"\x01\x00\x00", (1,)), (b"\x01\x00\x00\x00", (1,)), (b"\xff\xff\xff\xffa", (1,)), (b"\x01\x00\x00\x00ab", (1,)),
    (b"\x00\x00\x00\x00", (2,)), (b"\x00\x00\x00\x00" * 2, (1,)), (b"\x00\x00\x00\x00", (1, 1)), (b"", (0,)), (b"", (33,)), (b"", (2**40,)), (b"", ()),
])  # fmt: skip
def test_lengths_that_are_not_those_of_the_bytes_are_refused(raw: bytes, shape: tuple[int, ...]) -> None:
    with pytest.raises(RequestFailedError, match="invalid_tensor"):
        texts(raw, shape)


def test_an_element_may_be_empty() -> None:
    assert texts(b"\x00\x00\x00\x00\x01\x00\x00\x00a", (2,)) == [b"", b"a"]


@pytest.mark.parametrize(
    "values",
    [
        [1],
        [1, 2, 3, 4],
        [1, 2, 256],
        [1, 2, -1],
        [1, 2, 3.0],
        [1, 2, "3"],
        [1, 2, None],
        [1, 2, 10**30],
        [1, [2], 3],
    ],
)
def test_numbers_that_are_no_octets_are_refused(values: list[Any]) -> None:
    text = body(given(name="pixels", datatype="UINT8", shape=[1, 1, 3], data=values))
    _, (tensor,) = read_tensors(text, None)
    with pytest.raises(RequestFailedError, match="invalid_tensor"):
        tensor.octets()


def test_numbers_may_stand_in_lists_of_lists() -> None:
    _, (tensor,) = read_tensors(
        body(given(datatype="UINT8", shape=[1, 2, 3], data=[[[1, 2, 3], [4, 5, 6]]])), None
    )
    assert bytes(tensor.octets()) == bytes(range(1, 7))


def test_a_picture_of_640_by_640_may_come_as_numbers() -> None:
    numbers = b",".join([b"7"] * (640 * 640 * 3))
    text = body(given(datatype="UINT8", shape=[640, 640, 3], data=["@"])).replace(b'"@"', numbers)
    assert text.count(b",") < tensors.MAX_JSON_COMMAS
    _, (tensor,) = read_tensors(text, None)
    assert tensor.octets()[-1] == 7
