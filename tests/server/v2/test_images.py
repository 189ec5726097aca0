from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from server.decode import ImageLimits, decode
from server.errors import RequestFailedError
from server.v2.images import to_bmp, to_requests
from server.v2.schemas import InferBody
from server.v2.tensors import Tensor
from tests.server.images import noise

LIMITS = ImageLimits(max_bytes=100_000, max_pixels=20_000, max_side=200)


def pixels(shape: tuple[int, ...], raw: bytes | None = None, datatype: str = "UINT8") -> Tensor:
    size = int(np.prod(shape, dtype=object))
    raw = bytes(size) if raw is None and size < 10**6 else raw or b""
    return Tensor("pixels", datatype, shape, memoryview(raw), ())


def texts(name: str, *values: Any) -> Tensor:
    return Tensor(name, "BYTES", (len(values),), None, values)


def asked(**parameters: Any) -> InferBody:
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES"}
    return InferBody.model_validate({"inputs": [tensor], "parameters": parameters})


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (2, 3), (3, 2), (4, 5), (5, 1), (1, 7), (97, 31), (640, 480)]
)
def test_every_pixel_arrives_as_it_is(width: int, height: int) -> None:
    picture = noise(width, height)
    assert np.array_equal(decode(to_bmp(picture), ImageLimits()), picture)


def test_a_batch_is_as_many_images_in_order() -> None:
    batch = np.stack([noise(9, 5, seed) for seed in range(3)])
    requests = to_requests("m", asked(confidence=0.5), [pixels(batch.shape, batch.tobytes())], LIMITS)
    assert len(requests) == 3
    for request, picture in zip(requests, batch, strict=True):
        assert isinstance(request.encoded, bytes)
        assert np.array_equal(decode(request.encoded, LIMITS), picture)
        assert (request.model_id, request.parameters, request.is_text) == ("m", {"confidence": 0.5}, False)


def test_one_image_needs_no_dimension_for_it() -> None:
    picture = noise(9, 5)
    (request,) = to_requests("m", asked(), [pixels(picture.shape, picture.tobytes())], LIMITS)
    assert request.encoded == to_bmp(picture)


@pytest.mark.parametrize("tensor", [
    pixels((5, 9)), pixels((5, 9, 4)), pixels((5, 9, 1)), pixels((0, 5, 9, 3)), pixels((1, 0, 9, 3)), pixels((33, 1, 1, 3)), pixels((1, 1, 1, 1, 3)), pixels(()),
    pixels((3, 5, 9)), pixels((1, 5, 9, 3), b"short"), pixels((1, 5, 9, 3), bytes(136)), pixels((2**40, 2**40, 2**40, 3)), pixels((5, 9, 3), None, "FP32"),
    pixels((5, 9, 3), None, "BYTES"), texts("pixels", "x"), texts("image"), texts("image", *"x" * 33), texts("image", 1), texts("mask", "x"),
])  # fmt: skip
def test_a_wrong_tensor_is_named(tensor: Tensor) -> None:
    with pytest.raises(RequestFailedError) as failed:
        to_requests("m", asked(), [tensor], LIMITS)
    assert failed.value.code == "invalid_tensor"
    assert f"The tensor {tensor.name} " in failed.value.message


@pytest.mark.parametrize(
    ("shape", "code"), [((1, 201, 1, 3), "image_too_large"), ((1, 150, 150, 3), "image_too_large")]
)
def test_pixels_have_the_bounds_of_all_images(shape: tuple[int, ...], code: str) -> None:
    with pytest.raises(RequestFailedError, match=code):
        to_requests("m", asked(), [pixels(shape)], LIMITS)
    with pytest.raises(RequestFailedError, match="body_too_large"):
        to_requests("m", asked(), [pixels((1, 100, 100, 3))], ImageLimits(max_bytes=30_000))


@pytest.mark.parametrize("given", [
    [], [texts("prompt", "?")], [texts("image", "x"), pixels((1, 1, 3))], [texts("image", "x"), texts("image", "x")],
])  # fmt: skip
def test_exactly_one_of_image_and_pixels_is_given_once(given: list[Tensor]) -> None:
    with pytest.raises(RequestFailedError, match="invalid_tensor"):
        to_requests("m", asked(), given, LIMITS)


def test_prompts_are_asked_of_every_image() -> None:
    images = texts("image", "a", "b")
    one = to_requests("m", asked(), [images, texts("prompt", "why?")], LIMITS)
    assert [(request.prompt, request.prompts) for request in one] == [("why?", None)] * 2
    raw = b"".join(len(text).to_bytes(4, "little") + text for text in ("wó?".encode(), b"how?"))
    several = to_requests(
        "m", asked(), [images, Tensor("prompt", "BYTES", (2,), memoryview(raw), ())], LIMITS
    )
    assert [(request.prompt, request.prompts) for request in several] == [(None, ["wó?", "how?"])] * 2
    with pytest.raises(RequestFailedError, match="invalid_tensor"):
        to_requests(
            "m", asked(), [images, Tensor("prompt", "BYTES", (1,), memoryview(b"\x01\0\0\0\xff"), ())], LIMITS
        )


def test_the_protocols_own_parameters_are_not_the_models() -> None:
    given = asked(binary_data_output=True, content_type="np", confidence=0.5)
    (request,) = to_requests("m", given, [texts("image", "x")], LIMITS)
    assert request.parameters == {"confidence": 0.5}
