"""Tensors that strangers send: every one is refused with a name, and the server serves on."""

from __future__ import annotations

import json
import struct
import time
from typing import Any

import httpx
import pytest

from tests.hostile.target import SAMPLE, Target

PICTURE = struct.pack("<I", SAMPLE.stat().st_size) + SAMPLE.read_bytes()
PATH = "/v2/models/shapes-detect/infer"


def post(target: Target, inputs: Any, behind: bytes = b"", **fields: Any) -> httpx.Response:
    text = json.dumps({"inputs": inputs, **fields}).encode()
    return target.client.post(
        PATH, content=text + behind, headers={"Inference-Header-Content-Length": str(len(text))}
    )


def image(raw: bytes, shape: list[Any], **fields: Any) -> list[dict[str, Any]]:
    return [
        {
            "name": "image",
            "datatype": "BYTES",
            "shape": shape,
            "parameters": {"binary_data_size": len(raw)},
            **fields,
        }
    ]


def pixels(shape: list[Any], num_bytes: int) -> list[dict[str, Any]]:
    return [
        {"name": "pixels", "datatype": "UINT8", "shape": shape, "parameters": {"binary_data_size": num_bytes}}
    ]


@pytest.mark.parametrize(("raw", "shape"), [
    (PICTURE, [2]), (PICTURE, [2**31]), (PICTURE, [2**40]), (PICTURE[:-1], [1]), (PICTURE + b"x", [1]), (b"\xff" * 64, [1]), (b"\xff" * 64, [16]),
    (b"\x00" * 128, [33]), (b"", [1]), (b"\x01", [1]),
])  # fmt: skip
def test_lengths_that_lie_are_refused(target: Target, raw: bytes, shape: list[int]) -> None:
    reply = post(target, image(raw, shape), raw)
    assert (reply.status_code, "invalid_tensor" in reply.json()["error"]) == (400, True)


@pytest.mark.parametrize(("shape", "num_bytes", "status"), [
    ([2**40, 2**40, 3], 12, 422), ([65_536, 65_536, 65_536, 3], 12, 400), ([1, 16_385, 1, 3], 49_155, 422), ([1, 2**20, 2**20, 3], 12, 422),
    ([4, 4, 3], 47, 400), ([0, 4, 3], 0, 400), ([32, 1, 1, 3], 95, 400), ([4, 4, 2**40], 48, 400), ([-1, 4, 3], 12, 400), ([1e3, 4, 3], 12, 400), ([2**70, 4, 3], 12, 400),
])  # fmt: skip
def test_shapes_that_are_not_those_of_the_bytes_are_refused(
    target: Target, shape: list[Any], num_bytes: int, status: int
) -> None:
    assert post(target, pixels(shape, num_bytes), bytes(num_bytes)).status_code == status


@pytest.mark.parametrize("body", [
    b"", b"[]", b"\x00" * 1000, b"[" * 100_000, b'{"inputs":' + b"[" * 100_000, b'{"inputs":[' + b"{}," * 100_000 + b"{}]}", b'{"inputs":[' + b"0," * 5_000_000 + b"0]}",
    b'{"inputs":[{"name":"image","shape":[' + b"1," * 1_000_000 + b'1],"datatype":"BYTES","data":[]}]}',
    b'{"inputs":[{"name":"pixels","shape":[640,640,3],"datatype":"UINT8","data":[' + b"1e300," * 1_000_000 + b"1]}]}",
    b'{"inputs":[{"name":"image","shape":[1],"datatype":"BYTES","data":["' + b"A" * 27_000_000 + b'"]}]}',
    b'{"parameters":{' + b",".join(b'"%d":0' % n for n in range(200_000)) + b'},"inputs":[{"name":"image","shape":[1],"datatype":"BYTES","data":["AAAA"]}]}',
    b"x" * 40_000_000,
], ids=range(12))  # fmt: skip
def test_json_that_is_too_much_is_refused_soon(target: Target, body: bytes) -> None:
    began = time.monotonic()
    reply = target.client.post(PATH, content=body)
    assert 400 <= reply.status_code < 500, reply.text
    assert len(reply.text) < 500
    assert time.monotonic() - began < 10


def test_many_large_images_are_refused_as_bodies_that_are_too_large(target: Target) -> None:
    raw = bytes(22 * 2**20)
    reply = post(target, pixels([22, 1024, 1024, 1], len(raw)), raw)
    assert (reply.status_code, "body_too_large" in reply.json()["error"]) == (413, True)
