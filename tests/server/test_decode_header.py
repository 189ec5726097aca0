from __future__ import annotations

import pytest

from server.decode_header import declared_size
from server.errors import RequestFailedError
from tests.server.images import encode, png_chunk, scene, webp_lossless, with_size


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_the_size_stands_in_the_header(kind: str) -> None:
    assert declared_size(encode(scene(101, 67), kind)) == (101, 67)


def test_a_lie_is_read_as_it_stands() -> None:
    assert declared_size(with_size(encode(scene(), "JPEG"), 60_000, 50_000)) == (60_000, 50_000)
    assert declared_size(webp_lossless(16_383, 16_383)) == (16_383, 16_383)


def test_what_is_out_of_the_ordinary_is_for_the_decoder_to_tell() -> None:
    jpeg = encode(scene(), "JPEG")
    at = jpeg.index(b"\xff\xdb")
    assert declared_size(jpeg[:at] + b"\x00\x00" + jpeg[at:]) is None
    assert declared_size(b"GIF89a" + bytes(20)) is None


@pytest.mark.parametrize(
    "header",
    [
        b"\x00\x00\x00\x04CgBI" + bytes(30),
        png_chunk(b"IHDR", b"\x00\x00\x00\x08") + b"\xff" * 30,  # sides that are the next chunk's bytes
        png_chunk(b"IHDR", b"\x00\x00\xff\xff" * 2 + b"\x08\x02\x00\x00\x00")[:-1] + b"\x00",
    ],
)
def test_a_png_without_a_whole_header_and_its_checksum_says_nothing_of_its_size(header: bytes) -> None:
    assert declared_size(b"\x89PNG\r\n\x1a\n" + header) == (0, 0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_no_length_is_too_short(kind: str) -> None:
    encoded = encode(scene(), kind)
    for length in range(64):
        try:
            size = declared_size(encoded[:length])
        except RequestFailedError as error:
            assert error.code == "image_undecodable"
        else:
            assert size is None or (size[0] >= 0 and size[1] >= 0)


def test_what_is_no_image_is_said_to_be_none() -> None:
    for content, code in ((b"nothing", "image_undecodable"), (b"%PDF-1.7 ...", "unsupported_image_format")):
        with pytest.raises(RequestFailedError) as caught:
            declared_size(content)
        assert caught.value.code == code
