"""From tensors to requests, one for each image. Pixels go the way of every image: as a file in the one format whose
rows are plain bytes, through the same checks, the same decoder and the same slot."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from server.decode import ImageLimits
from server.errors import RequestFailedError
from server.intake import InferenceRequest
from server.schemas import MAX_PROMPTS
from server.v2.schemas import InferBody
from server.v2.tensors import Tensor

MAX_IMAGES = 32
"""Of one request."""
IMAGE, PIXELS, PROMPT = "image", "pixels", "prompt"
_OF_PROTOCOL = ("binary_data_output", "content_type", "headers")
"""Parameters of a request that are none of the model's; the last two are notes that MLServer's client makes to
itself."""
_HEAD = struct.Struct("<2sIHHIIiiHHIIiiII")
_HEAD_BYTES, _INFO_BYTES, _BITS, _DOTS_PER_METRE = 54, 40, 24, 2835


def to_requests(
    model_id: str, asked: InferBody, tensors: Sequence[Tensor], limits: ImageLimits
) -> list[InferenceRequest]:
    """The requests, in the images' order; every prompt is asked of every image. Raises RequestFailedError."""
    given = _by_name(tensors)
    if (IMAGE in given) == (PIXELS in given):
        reason = f"is missing: give it or {PIXELS}" if IMAGE not in given else f"is given beside {PIXELS}"
        raise RequestFailedError("invalid_tensor", IMAGE, reason=reason)
    prompts = _prompts(given[PROMPT]) if PROMPT in given else []
    parameters = {name: value for name, value in (asked.parameters or {}).items() if name not in _OF_PROTOCOL}
    encoded: Sequence[bytes | str]
    encoded = given[IMAGE].texts(MAX_IMAGES) if IMAGE in given else list(_files(given[PIXELS], limits))
    return [
        InferenceRequest(
            model_id,
            prompt=prompts[0] if len(prompts) == 1 else None,
            parameters=parameters,
            is_text=False,
            encoded=image,
            prompts=prompts if len(prompts) > 1 else None,
        )
        for image in encoded
    ]


def _by_name(tensors: Sequence[Tensor]) -> Mapping[str, Tensor]:
    given: dict[str, Tensor] = {}
    for tensor in tensors:
        if tensor.name not in (IMAGE, PIXELS, PROMPT):
            raise tensor.refuse(f"is not known; there are {IMAGE}, {PIXELS} and {PROMPT}")
        if tensor.name in given:
            raise tensor.refuse("is given twice")
        given[tensor.name] = tensor
    return given


def _prompts(tensor: Tensor) -> list[str]:
    try:
        return [text if isinstance(text, str) else text.decode() for text in tensor.texts(MAX_PROMPTS)]
    except UnicodeDecodeError:
        raise tensor.refuse("must be UTF-8") from None


def _files(tensor: Tensor, limits: ImageLimits) -> Iterator[bytes]:
    shape = (1, *tensor.shape) if len(tensor.shape) == 3 else tensor.shape
    if len(shape) != 4 or shape[3] != 3 or not 1 <= shape[0] <= MAX_IMAGES or 0 in shape:
        raise tensor.refuse(f"must have the shape [N, H, W, 3] or [H, W, 3] with N from 1 to {MAX_IMAGES}")
    limits.check(width=shape[2], height=shape[1])
    for picture in np.frombuffer(tensor.octets(), np.uint8).reshape(shape):
        encoded = to_bmp(picture)
        if len(encoded) > limits.max_bytes:
            raise RequestFailedError("body_too_large")
        yield encoded


def to_bmp(picture: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """`picture`, uint8 RGB of shape (height, width, 3), as an uncompressed file: every pixel as it is."""
    height, width, _ = picture.shape
    rows = np.zeros((height, (3 * width + 3) // 4 * 4), np.uint8)  # each row is padded to four bytes
    rows[:, : 3 * width] = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR).reshape(height, 3 * width)
    num_bytes = _HEAD_BYTES + rows.nbytes
    head = _HEAD.pack(
        b"BM",
        num_bytes,
        0,
        0,
        _HEAD_BYTES,
        _INFO_BYTES,
        width,
        -height,
        1,
        _BITS,
        0,
        rows.nbytes,
        _DOTS_PER_METRE,
        _DOTS_PER_METRE,
        0,
        0,
    )  # fmt: skip  the negative height: from the top down
    return b"".join((head, rows.data))
