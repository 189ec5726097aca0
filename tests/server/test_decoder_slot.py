from __future__ import annotations

import pytest

from server.decoder_slot import MAX_OUTPUT_BYTES, Order, decode_size, encode_size, slot_size


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
