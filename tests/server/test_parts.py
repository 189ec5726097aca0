from __future__ import annotations

import io
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bench.mutants import Mutants, corpus
from server import bmp, gif, jpeg_parts, png, sniff, webp
from server.decode import ImageLimits, decode
from server.errors import RequestFailedError
from server.jpeg import MAX_SEGMENTS
from server.parts import MAX_PARTS
from tests.hostile.pictures import (
    CASES,
    exif,
    exif_entry,
    gif_frame,
    jpeg,
    png_with,
    segment,
    webp_chunk,
    webp_extended,
    with_segments,
)
from tests.hostile.pictures import gif as make_gif
from tests.server.images import encode, png_chunk, scene

READERS = [png.read, gif.read, bmp.read, webp.read, jpeg_parts.read]
WIDTH, HEIGHT = 6000, 4000
"""24 megapixels, the most that is allowed."""


@pytest.mark.parametrize(("mode", "kind", "options"), [
    ("L", "JPEG", {"optimize": True}), ("L", "JPEG", {"progressive": True, "quality": 1}),
    ("RGB", "JPEG", {"optimize": True, "subsampling": "4:1:1"}), ("CMYK", "JPEG", {"optimize": True, "subsampling": "4:1:1"}),
    ("1", "PNG", {"compress_level": 9}), ("L", "PNG", {"compress_level": 9}), ("P", "PNG", {"compress_level": 9}),
    ("I;16", "PNG", {"compress_level": 9}), ("RGB", "PNG", {"compress_level": 9}), ("P", "GIF", {}),
])  # fmt: skip
def test_the_emptiest_picture_of_the_largest_size_is_no_lie(
    mode: str, kind: str, options: dict[str, object]
) -> None:
    encoded = encode(Image.new(mode, (WIDTH, HEIGHT)), kind, **options)
    reader = dict(zip(("PNG", "GIF", "BMP", "WEBP", "JPEG"), READERS, strict=True))[kind]
    parts = reader(encoded)
    assert parts is not None
    assert (parts.width, parts.height) == (WIDTH, HEIGHT)
    assert 0 < parts.min_bytes <= len(encoded) < 40 * parts.min_bytes


@pytest.mark.parametrize("reader", READERS)
@given(st.binary(max_size=80))
def test_no_bytes_are_too_broken_for_a_reader(reader: object, content: bytes) -> None:
    assert callable(reader)
    for start in (
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
        b"GIF89a",
        b"BM",
        b"RIFF\x00\x00\x00\x00WEBPVP8X",
        b"\xff\xd8\xff",
    ):
        try:
            parts = reader(start + content)
        except RequestFailedError:
            continue
        assert parts is None or isinstance(parts.content, bytes)


def test_what_a_decoder_is_given_has_the_pixels_of_the_whole_file() -> None:
    """Of sound pictures of every kind, by Pillow on its own."""
    for encoded in corpus():
        name = sniff.image_format(encoded)
        reader = dict(zip(("PNG", "GIF", "BMP", "WEBP", "JPEG"), READERS, strict=True))[str(name)]
        parts = reader(encoded)
        assert parts is not None
        images = [Image.open(io.BytesIO(each)) for each in (encoded, parts.content)]
        assert images[0].size == images[1].size == (parts.width, parts.height)
        np.testing.assert_array_equal(*(np.asarray(image.convert("RGBA")) for image in images))


BOMBS = {
    "PNG chunks": lambda: png_with(png_chunk(b"teXt", b"") * 1_600_000),
    "PNG profiles": lambda: png_with(png_chunk(b"iCCP", b"x" * 1000) * 15_000),
    "GIF blocks": lambda: make_gif(8, 8, b"!\xfe" + b"\x01a" * 10_000_000 + b"\x00", gif_frame(8, 8)),
    "GIF extensions": lambda: make_gif(8, 8, b"!\xfe\x00" * 6_000_000, gif_frame(8, 8)),
    "GIF junk": lambda: make_gif(8, 8, b"\x00" * 19_000_000, gif_frame(8, 8)),
    "WebP chunks": lambda: webp_extended(8, 8, webp_chunk(b"XXXX", b"") * 2_400_000),
    "JPEG segments": lambda: with_segments(b"\xff\xe3\x00\x02" * 4_900_000),
    "JPEG empty markers": lambda: with_segments(b"\xff\xd0" * 9_000_000),
    "JPEG junk": lambda: with_segments(b"\xff\x00" * 9_000_000),
    "JPEG tables": lambda: with_segments(segment(0xDB, (b"\x00" + b"\x01" * 64) * 1000) * 300),
    "JPEG fill": lambda: jpeg()[:2] + b"\xff" * 19_000_000 + b"\x00",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_no_number_of_parts_keeps_a_reader_busy(name: str) -> None:
    bomb = BOMBS[name]()
    started = time.thread_time()
    for reader in READERS:
        reader(bomb)
    assert time.thread_time() - started < 1.0


def test_a_long_run_of_fill_is_passed_over_once_and_not_once_for_each_byte() -> None:
    bomb = b"\xff\xd8" + b"\xff" * 5_000_000 + b"\x00" + b"\xff\xda" * 200
    started = time.thread_time()
    sniff.num_jpeg_scans(bomb)
    assert time.thread_time() - started < 1.0


def test_a_part_more_than_there_may_be_is_refused_and_not_cut_off() -> None:
    chunks = png_chunk(b"teXt", b"")
    assert png.read(png_with(chunks * (MAX_PARTS - 10))) is not None
    assert png.read(png_with(chunks * MAX_PARTS)) is None
    assert (
        gif.read(make_gif(8, 8, b"!\xfe\x00" * (MAX_PARTS - 10), gif_frame(8, 8))) is None
    )  # a block's end is one too
    assert gif.read(make_gif(8, 8, b"!\xfe\x00" * (MAX_PARTS // 2 - 10), gif_frame(8, 8))) is not None
    assert jpeg_parts.read(with_segments(b"\xff\xe3\x00\x02" * MAX_SEGMENTS)) is None
    assert jpeg_parts.read(BOMBS["JPEG tables"]()) is None


@pytest.mark.parametrize("name", [name for name in CASES if "24 megapixels in" in name])
def test_a_size_that_the_bytes_cannot_have_is_refused_without_a_decoder(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode_anyway(*_: object) -> None:
        raise AssertionError("it was tried")

    monkeypatch.setattr("server.pillow.decode_with_pillow", decode_anyway)
    monkeypatch.setattr("server.decode.decode_jpeg", decode_anyway)
    with pytest.raises(RequestFailedError) as caught:
        decode(CASES[name].make(), ImageLimits())
    assert caught.value.code == "image_undecodable"


def test_scans_of_a_large_picture_are_fewer() -> None:
    def scans(width: int, height: int, number: int) -> bytes:
        solid = encode(Image.new("L", (width, height)), "JPEG", progressive=True)
        at = solid.rindex(b"\xff\xda")
        return solid[:at] + solid[at:-2] * (number - sniff.num_jpeg_scans(solid) + 1) + solid[-2:]

    limits = ImageLimits()
    assert decode(scans(100, 100, sniff.MAX_JPEG_SCANS), limits).shape == (100, 100, 3)
    for width, height, number in ((100, 100, sniff.MAX_JPEG_SCANS + 1), (6000, 4000, 31)):
        with pytest.raises(RequestFailedError) as caught:
            decode(scans(width, height, number), limits)
        assert caught.value.code == "image_undecodable"


def test_a_picture_is_worth_no_line_in_the_log_whatever_is_wrong_with_its_exif() -> None:
    """In an interpreter of its own, which shows every warning, as a test's would not."""
    script = "\n".join([
        "import sys", "from server.decode import ImageLimits, decode", "decode(sys.stdin.buffer.read(), ImageLimits())",
    ])  # fmt: skip
    broken = exif(*[exif_entry(tag, 2, 0xFFFFFFFF, 8) for tag in range(0x100, 0x200)])
    encoded = with_segments(
        segment(0xE1, broken), to=encode(Image.fromarray(scene()).convert("CMYK"), "JPEG")
    )
    command = [sys.executable, "-W", "always", "-c", script]
    done = subprocess.run(command, input=encoded, capture_output=True, check=True, timeout=60)
    assert done.stderr == b""


def test_mutants_decode_or_are_refused() -> None:
    limits, mutants, outcomes = ImageLimits(), Mutants(9, corpus()), set()
    for number in range(1500):
        try:
            outcomes.add(decode(mutants.make(number), limits).shape[2])
        except RequestFailedError as error:
            outcomes.add(error.code)
    assert outcomes == {3, "image_undecodable", "image_too_large", "unsupported_image_format"}


def test_a_mutant_is_the_same_whenever_it_is_made() -> None:
    made, again = (
        [mutants.make(number) for number in range(200)]
        for mutants in (Mutants(3, corpus()), Mutants(3, corpus()))
    )
    assert made == again
    assert len(set(made)) > 190
