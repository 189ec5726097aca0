"""Pixels against values computed here, for every kind of file that a format knows."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from server.decode import ImageLimits, decode
from server.errors import RequestFailedError
from tests.hostile.pictures import (
    GIF_PALETTE,
    animated_webp,
    apng,
    bmp,
    gif,
    gif_frame,
    jpeg,
    segment,
    webp_chunk,
    webp_extended,
    with_segments,
)  # fmt: skip
from tests.server.images import Pixels, encode, noise, png, png_chunk, scene

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""From the left and from the top, and the steps, of each pass."""
PALETTE = np.random.default_rng(5).integers(0, 256, (256, 3), np.uint8)


def rgb(encoded: bytes) -> Pixels:
    return decode(encoded, ImageLimits())


def over_white(colour: Pixels, alpha: Pixels) -> npt.NDArray[np.float64]:
    """What a viewer sees on a white page."""
    share = alpha[..., np.newaxis] / 255
    return colour * share + 255 * (1 - share)


def pack(samples: npt.NDArray[np.int64], depth: int) -> bytes:
    """Unfiltered scanlines of (height, width, channels)."""
    rows = []
    for row in samples.reshape(len(samples), -1):
        if depth == 16:
            rows.append(row.astype(">u2").tobytes())
        else:
            bits = (row[:, np.newaxis] >> np.arange(depth)[::-1]) & 1
            rows.append(np.packbits(bits.astype(np.uint8).ravel()).tobytes())
    return b"".join(b"\x00" + row for row in rows)


def png_of(
    samples: npt.NDArray[np.int64], depth: int, colour: int, interlaced: bool, *chunks: bytes
) -> bytes:
    """A PNG of any kind."""
    height, width = samples.shape[:2]
    if not interlaced:
        return png(width, height, depth, colour, pack(samples, depth), *chunks)
    passes = (samples[top::down, left::right] for left, top, right, down in ADAM7)
    rows = b"".join(pack(each, depth) for each in passes if each.size)
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 1))
    body = b"".join(chunks) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + body


def eight_bits(samples: npt.NDArray[np.int64], depth: int) -> Pixels:
    """The rule: small samples are stretched, of large ones the upper byte counts."""
    return (samples >> 8 if depth == 16 else samples * (255 // (2**depth - 1))).astype(np.uint8)


PNG_KINDS = [
    (0, 1),
    (0, 2),
    (0, 4),
    (0, 8),
    (0, 16),
    (2, 8),
    (2, 16),
    (3, 1),
    (3, 2),
    (3, 4),
    (3, 8),
    (4, 8),
    (4, 16),
    (6, 8),
    (6, 16),
]


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("colour", "depth"), PNG_KINDS)
def test_every_kind_of_png_has_its_pixels(colour: int, depth: int, interlaced: bool) -> None:
    samples = np.random.default_rng(depth).integers(0, 2**depth, (11, 13, CHANNELS[colour]))
    chunks = [png_chunk(b"PLTE", PALETTE[: 2**depth].tobytes())] if colour == 3 else []
    picture = rgb(png_of(samples, depth, colour, interlaced, *chunks))
    small = eight_bits(samples, depth)
    if colour == 3:
        expected = PALETTE[samples[..., 0]].astype(float)
    elif colour in (4, 6):
        expected = over_white(np.broadcast_to(small[..., :-1], (11, 13, 3)), small[..., -1])
    else:
        expected = np.broadcast_to(small, (11, 13, 3)).astype(float)
    assert np.abs(picture - expected).max() <= (1 if colour in (4, 6) else 0)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_grey_of_a_png_is_white_and_no_other(depth: int) -> None:
    samples = np.array([[[0], [1], [2**depth - 1], [2**depth - 1 - (depth > 1)]]])
    picture = rgb(png_of(samples, depth, 0, False, png_chunk(b"tRNS", struct.pack(">H", 1))))
    expected = eight_bits(samples, depth)
    expected[samples == 1] = 255
    np.testing.assert_array_equal(picture, np.broadcast_to(expected, (1, 4, 3)))


def test_the_transparent_colour_of_a_png_of_16_bits_is_drawn() -> None:
    """Of the samples' upper bytes alone nobody can tell which were meant."""
    samples = np.array([[[0x1234, 0, 0], [0x1200, 0, 0]]])
    picture = rgb(png_of(samples, 16, 2, False, png_chunk(b"tRNS", struct.pack(">3H", 0x12, 0, 0))))
    np.testing.assert_array_equal(picture, [[[0x12, 0, 0]] * 2])


def test_a_palette_may_have_an_alpha_for_each_colour_or_for_the_first_ones() -> None:
    samples = np.arange(4).reshape(1, 4, 1)
    plte = png_chunk(b"PLTE", PALETTE[:4].tobytes())
    for alphas in ((0, 255, 128, 7), (0,), (255, 0), (10, 20)):
        picture = rgb(png_of(samples, 2, 3, False, plte, png_chunk(b"tRNS", bytes(alphas))))
        alpha = np.array([*alphas, *[255] * (4 - len(alphas))], np.uint8)
        assert np.abs(picture[0] - over_white(PALETTE[:4], alpha)).max() <= 1


def test_text_and_profiles_of_a_png_change_nothing() -> None:
    texts = [
        png_chunk(b"tEXt", b"transparency\x00no"), png_chunk(b"iCCP", b"x\x00\x00rubbish"), png_chunk(b"gAMA", b"1"),
        png_chunk(b"zTXt", b"a\x00\x00" + zlib.compress(bytes(2**21))), png_chunk(b"tEXt", b"exif\x00no"),
    ]  # fmt: skip
    sound = encode(scene())
    np.testing.assert_array_equal(rgb(sound[:33] + b"".join(texts) + sound[33:]), scene())


@pytest.mark.parametrize("place", ["eXIf", "eXIf behind the pixels", "XMP"])
def test_what_turns_a_png_is_found_wherever_it_stands(place: str) -> None:
    sound = encode(scene())
    xmp = png_chunk(b"iTXt", b'XML:com.adobe.xmp\x00\x00\x00\x00\x00<x tiff:Orientation="3"/>')
    exif = png_chunk(
        b"eXIf", b"II*\x00\x08\x00\x00\x00\x01\x00" + struct.pack("<HHII", 0x112, 3, 1, 3) + bytes(4)
    )
    turned = {"XMP": sound[:33] + xmp + sound[33:], "eXIf": sound[:33] + exif + sound[33:]}.get(
        place, sound[:-12] + exif + sound[-12:]
    )
    np.testing.assert_array_equal(rgb(turned), scene()[::-1, ::-1])


def test_many_small_chunks_of_pixels_are_one_picture() -> None:
    header, rows = (
        encode(noise(40, 40))[:33],
        zlib.compress(b"".join(b"\x00" + row.tobytes() for row in noise(40, 40))),
    )
    pieces = b"".join(png_chunk(b"IDAT", rows[at : at + 3]) for at in range(0, len(rows), 3))
    np.testing.assert_array_equal(rgb(header + pieces + png_chunk(b"IEND", b"")), noise(40, 40))


COLOURS = np.frombuffer(GIF_PALETTE, np.uint8).reshape(4, 3)
CONTROL = b"!\xf9\x04\x01\x00\x00\x01\x00"
"""The colour of number 1 is transparent."""


def test_around_the_frame_of_a_gif_is_white() -> None:
    for control, index, colour in (
        (b"", 1, COLOURS[1]),
        (CONTROL, 2, COLOURS[2]),
        (CONTROL, 1, (255, 255, 255)),
    ):
        expected = np.full((30, 40, 3), 255, np.uint8)
        expected[7:15, 5:17] = colour
        np.testing.assert_array_equal(rgb(gif(40, 30, control, gif_frame(12, 8, 5, 7, index))), expected)


def test_a_gif_grows_with_a_frame_that_is_larger() -> None:
    picture = rgb(gif(4, 4, gif_frame(12, 8, 5, 7, 2)))
    assert picture.shape == (15, 17, 3)
    assert (picture[7:, 5:] == COLOURS[2]).all() and (picture[:7] == 255).all()


def test_the_last_control_before_a_frame_counts_and_comments_do_not() -> None:
    comments = b"!\xfe\x05hello\x00" * 300 + b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"
    encoded = gif(8, 8, b"!\xf9\x04\x01\x00\x00\x02\x00", comments, CONTROL, gif_frame(8, 8, index=2))
    assert (rgb(encoded) == COLOURS[2]).all()


def bmp_rows(*rows: Sequence[int]) -> bytes:
    return b"".join(bytes(row) + bytes(-len(row) % 4) for row in rows)


def masks(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


PALETTE_OF_4 = b"".join(bytes([*colour[::-1], 0]) for colour in PALETTE[:256].tolist())
ONE, TWO = [1, 2, 3], [250, 128, 7]


@pytest.mark.parametrize(("encoded", "expected"), [
    (bmp(2, 1, 24, bmp_rows([*ONE[::-1], *TWO[::-1]])), [[ONE, TWO]]),
    (bmp(1, 2, 24, bmp_rows(ONE[::-1], TWO[::-1])), [[TWO], [ONE]]),
    (bmp(1, -2, 24, bmp_rows(ONE[::-1], TWO[::-1])), [[ONE], [TWO]]),  # from the top down
    (bmp(2, 1, 32, bytes([*ONE[::-1], 0, *TWO[::-1], 99])), [[ONE, TWO]]),  # its fourth byte means nothing
    (bmp(2, 1, 16, struct.pack("<2H", 0x7FFF, 0x001F)), [[[255] * 3, [0, 0, 255]]]),
    (bmp(2, 1, 16, struct.pack("<2H", 0xF800, 0x07E0), 3, masks(0xF800, 0x7E0, 0x1F)), [[[255, 0, 0], [0, 255, 0]]]),
    (bmp(1, 1, 32, bytes([0, *ONE]), 3, masks(0xFF00, 0xFF0000, 0xFF000000)), None),  # a layout that nobody writes
    (bmp(1, 1, 32, bytes([0, *ONE[::-1]]), 3, masks(0xFF000000, 0xFF0000, 0xFF00)), [[ONE]]),
    (bmp(2, 1, 8, bytes([9, 200, 0, 0]), 0, PALETTE_OF_4), [[PALETTE[9].tolist(), PALETTE[200].tolist()]]),
    (bmp(3, 1, 8, b"\x02\x09\x01\xc8\x00\x00\x00\x01", 1, PALETTE_OF_4), [[PALETTE[9].tolist()] * 2 + [PALETTE[200].tolist()]]),
    (b"BM" + struct.pack("<IHHI", 0, 0, 0, 26) + struct.pack("<IHHHH", 12, 1, 1, 1, 24) + bytes([*ONE[::-1], 0]), [[ONE]]),
    (bmp(2, 2, 24, bmp_rows([0] * 6, [*ONE[::-1], *TWO[::-1]])[:-2]), [[ONE, TWO], [[0] * 3] * 2]),  # no padding at the end
])  # fmt: skip
def test_every_kind_of_bmp_has_its_pixels(encoded: bytes, expected: object) -> None:
    if expected is not None:
        np.testing.assert_array_equal(rgb(encoded), expected)
    else:
        with pytest.raises(RequestFailedError):
            rgb(encoded)


def test_a_bmp_with_alpha_is_laid_over_white() -> None:
    header = struct.pack("<IiiHHIIiiII", 56, 2, 1, 1, 32, 3, 8, 0, 0, 0, 0) + masks(
        0xFF0000, 0xFF00, 0xFF, 0xFF000000
    )
    encoded = b"BM" + struct.pack("<IHHI", 0, 0, 0, 70) + header + bytes([*ONE, 0, *TWO[::-1], 255])
    np.testing.assert_array_equal(rgb(encoded), [[[255] * 3, TWO]])


def cmyk(adobe_transform: int | None) -> tuple[bytes, npt.NDArray[np.int64]]:
    """A solid one, and its samples as they are stored; Adobe's are inverted."""
    stored = np.array([200, 120, 60, 220])
    solid = Image.merge("CMYK", [Image.new("L", (16, 16), 255 - int(value)) for value in stored])
    encoded = encode(solid, "JPEG", quality=100, subsampling="4:4:4")
    at = encoded.index(b"Adobe") + 11
    assert encoded[at] == 0
    return encoded[:at] + bytes([adobe_transform or 0]) + encoded[at + 1 :], stored


def test_cmyk_is_what_adobe_makes_of_it() -> None:
    encoded, stored = cmyk(0)
    expected = stored[:3] * stored[3] / 255
    assert np.abs(rgb(encoded) - expected).max() <= 3


def test_ycck_is_turned_into_cmyk_first() -> None:
    encoded, (y, cb, cr, k) = cmyk(2)
    ink = np.array(
        [y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128)]
    )
    # Colour space conversion gives red, green and blue, of which CMYK is the complement; Adobe's is inverted again.
    expected = (255 - ink.clip(0, 255)) * k / 255
    assert np.abs(rgb(encoded) - expected).max() <= 3


@pytest.mark.parametrize("size", [(17, 9), (1, 1), (8, 8), (33, 31)])
@pytest.mark.parametrize("options", [
    {"subsampling": "4:1:1"}, {"restart_marker_blocks": 1}, {"restart_marker_rows": 1}, {"progressive": True}, {"subsampling": "4:4:4"},
])  # fmt: skip
def test_a_jpeg_of_any_kind_is_close_to_what_was_encoded(
    size: tuple[int, int], options: dict[str, object]
) -> None:
    flat = np.full((size[1], size[0], 3), (30, 160, 220), np.uint8)
    assert np.abs(rgb(encode(flat, "JPEG", quality=95, **options)).astype(int) - flat).max() <= 3


def test_segments_that_say_nothing_of_pixels_change_nothing() -> None:
    grown = with_segments(
        segment(0xFE, b"x" * 60_000),
        segment(0xE2, b"MPF\x00" + b"\xff" * 90),
        segment(0xED, b"Photoshop 3.0\x00"),
    )
    np.testing.assert_array_equal(rgb(grown), rgb(jpeg()))
    other = encode(Image.fromarray(scene()).convert("CMYK"), "JPEG")
    np.testing.assert_array_equal(rgb(with_segments(segment(0xFE, b"x" * 60_000), to=other)), rgb(other))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_cmyk_picture_is_turned_upright_too(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(scene(48, 32))
    turned, plain = (
        rgb(encode(image.convert("CMYK"), "JPEG", quality=95, exif=exif)),
        rgb(encode(image, "JPEG", quality=95, exif=exif)),
    )
    assert turned.shape == plain.shape and np.abs(turned.astype(int) - plain).mean() < 4


def test_the_first_frame_of_ten_thousand_is_that_of_one() -> None:
    np.testing.assert_array_equal(rgb(animated_webp(10_000)), noise(8, 8))
    np.testing.assert_array_equal(rgb(apng(9_000)), rgb(apng(1)))
    np.testing.assert_array_equal(rgb(gif(8, 8, gif_frame(8, 8) * 10_000)), rgb(gif(8, 8, gif_frame(8, 8))))


def test_a_first_frame_smaller_than_an_animated_webp_stands_on_white() -> None:
    still = encode(noise(8, 8), "WEBP", lossless=True)[12:]
    place = (
        b"\x02\x00\x00\x03\x00\x00" + b"\x07\x00\x00\x07\x00\x00\x0a\x00\x00\x00"
    )  # half of the left and the top
    picture = rgb(
        webp_extended(20, 30, webp_chunk(b"ANIM", bytes(6)), webp_chunk(b"ANMF", place + still), flags=2)
    )
    expected = np.full((30, 20, 3), 255, np.uint8)
    expected[6:14, 4:12] = noise(8, 8)
    np.testing.assert_array_equal(picture, expected)


def test_a_webp_keeps_its_alpha_and_its_orientation_among_other_chunks() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    alpha = np.dstack([noise(9, 7), noise(9, 7, 1)[:, :, :1]])
    encoded = encode(
        Image.fromarray(alpha),
        "WEBP",
        lossless=True,
        exact=True,
        exif=exif,
        xmp=b"<x/>",
        icc_profile=b"rubbish" * 99,
    )
    assert encoded[12:16] == b"VP8X"
    picture = rgb(encoded)
    assert np.abs(picture[::-1, ::-1] - over_white(alpha[..., :3], alpha[..., 3])).max() <= 1
