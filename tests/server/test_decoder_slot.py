from __future__ import annotations

import pytest

from server.decoder_slot import (
    MAX_OUTPUT_BYTES,
    DrawOrder,
    Order,
    decode_length,
    decode_size,
    encode_length,
    encode_size,
    slot_size,
)
from server.sketch import MAX_ANSWER_BYTES, Sketch


def test_the_encoded_image_begins_behind_the_pixels_and_fits() -> None:
    order = Order((640, 640, 3), "letterbox", 20 * 2**20)
    assert order.start >= order.output_size and order.start % 4096 == 0
    assert Order((4096, 4096, 3), "stretch", 20 * 2**20).end <= slot_size(20 * 2**20)
    assert Order((4096, 4096, 3), "stretch", 1).output_size == MAX_OUTPUT_BYTES
    assert Order.from_params(order.to_params()) == order


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"{}", b"[1]", b"[1,2,3]", b'["1",2]', b"[true,1]", b"[1.5,2]", b"\xff", b"null",
        b"[" * 1024, b"[1," + b"9" * 1000 + b"]",
    ],
)  # fmt: skip
def test_an_answer_is_two_whole_numbers(payload: bytes) -> None:
    assert decode_size(encode_size(3, 4)) == (3, 4)
    with pytest.raises(ValueError):
        decode_size(payload)


def test_what_is_drawn_lies_before_the_image_and_the_answer_and_all_of_it_fits() -> None:
    sketch = Sketch("PNG", bytes(MAX_ANSWER_BYTES), (6000, 4000))
    order = DrawOrder.of(sketch, 20 * 2**20)
    assert sketch.max_bytes <= order.start < order.answer_start < order.end <= slot_size(20 * 2**20)
    assert DrawOrder.from_params(order.to_params()) == order
    assert DrawOrder.from_params(Order((64, 64, 3), "letterbox", 10).to_params()) is None


@pytest.mark.parametrize(
    "payload", [b"", b"0", b"-1", b"101", b"true", b"1.5", b"[1]", b"null", b"\xff", b"9" * 999]
)
def test_the_answer_to_an_order_to_draw_is_a_length_within_its_bound(payload: bytes) -> None:
    assert decode_length(encode_length(100), 100) == 100
    with pytest.raises(ValueError):
        decode_length(payload, 100)
