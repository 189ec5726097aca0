from __future__ import annotations

import struct
import threading
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from server import jpeg
from server.decode import ImageLimits
from server.errors import RequestFailedError
from server.jpeg import JpegHeader, decode_jpeg, exif_orientation, read_header
from server.pillow import decode_with_pillow
from tests.server.images import Pixels, encode, noise, scene

KINDS: list[dict[str, object]] = [
    {}, {"quality": 30}, {"quality": 100, "subsampling": "4:4:4"}, {"subsampling": "4:2:2"},
    {"subsampling": "4:1:1"}, {"progressive": True}, {"optimize": True}, {"restart_marker_rows": 1},
]  # fmt: skip


def by_pillow(encoded: bytes) -> Pixels | str:
    """Its picture or the code of its refusal."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return decode_with_pillow(encoded, "JPEG", ImageLimits().check)
    except RequestFailedError as error:
        return error.code


def by_libjpeg(encoded: bytes) -> Pixels | None:
    header = read_header(encoded)
    return None if header is None else decode_jpeg(encoded, header)


def exif_of(orientation: object, order: str = "<", kind: int = 3, count: int = 1) -> bytes:
    """The smallest EXIF segment that has an orientation."""
    value = struct.pack(order + ("H" if kind == 3 else "L"), orientation).ljust(4, b"\x00")
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HL", 42, 8)
    return head + struct.pack(order + "HHHL", 1, 0x0112, kind, count) + value + bytes(4)


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (17, 9), (101, 67), (640, 480)])
def test_the_pixels_are_pillows(options: dict[str, object], size: tuple[int, int]) -> None:
    for picture in (noise(*size), scene(*size)):
        for image in (Image.fromarray(picture), Image.fromarray(picture).convert("L")):
            encoded = encode(image, "JPEG", **options)
            np.testing.assert_array_equal(by_libjpeg(encoded), by_pillow(encoded))


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("picture", [scene(61, 47), scene(48, 32)], ids=["odd", "even"])
def test_a_turned_picture_is_pillows(orientation: int, picture: Pixels) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    encoded = encode(picture, "JPEG", exif=exif)
    expected = by_pillow(encoded)
    np.testing.assert_array_equal(by_libjpeg(encoded), expected)
    header = read_header(encoded)
    assert header is not None and not isinstance(expected, str)
    assert header.upright_size == (expected.shape[1], expected.shape[0])


@pytest.mark.parametrize(
    "text", [b'tiff:Orientation="6"', b"<tiff:Orientation>8</tiff:Orientation>", b"nothing"]
)
def test_an_orientation_in_xmp_counts_where_exif_has_none(text: bytes) -> None:
    encoded = encode(scene(), "JPEG", xmp=b"<x:xmpmeta>" + text + b"</x:xmpmeta>")
    np.testing.assert_array_equal(by_libjpeg(encoded), by_pillow(encoded))


def test_only_a_progressive_file_has_scans_that_cost() -> None:
    baseline, progressive = (read_header(encode(scene(), "JPEG", progressive=flag)) for flag in (False, True))
    assert baseline is not None and baseline.has_one_scan
    assert progressive is not None and not progressive.has_one_scan


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_orientation_is_read_in_either_byte_order_and_width(order: str) -> None:
    for kind in (3, 4):
        assert exif_orientation(exif_of(6, order, kind)) == 6
    assert exif_orientation(exif_of(6, order, count=2)) is None
    assert exif_orientation(exif_of(6, order)[:20]) is None


@given(st.binary(max_size=100))
def test_no_exif_is_too_broken_to_be_ignored(content: bytes) -> None:
    for tiff in (content, b"II*\x00" + content, b"MM\x00*" + content):
        value = exif_orientation(tiff)
        assert value is None or 0 <= value < 2**32


@given(st.binary(max_size=200))
def test_no_header_is_too_broken_to_be_read(content: bytes) -> None:
    assert read_header(b"\xff\xd8\xff" + content) is None or b"\xff\xda" in content


SEEDS = [
    encode(picture, "JPEG", exif=b"Exif\x00\x00" + exif_of(6), **options)
    for options in KINDS
    for picture in (scene(61, 47), Image.fromarray(scene(33, 21)).convert("L"))
]


@settings(deadline=None, max_examples=400)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=3),
    st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_a_damaged_file_is_pillows_or_exactly_what_pillow_makes_of_it(
    seed: bytes, changes: list[tuple[float, int]], kept: float
) -> None:
    mutated = bytearray(seed)
    for place, value in changes:
        mutated[int(place**2 * len(mutated))] = value  # rather in the headers
    encoded = bytes(mutated[: int(kept * len(mutated))])
    header = read_header(encoded)
    if header is None or header.width * header.height > 1_000_000:
        return
    picture = decode_jpeg(encoded, header)
    if picture is not None:
        np.testing.assert_array_equal(picture, by_pillow(encoded))


@pytest.mark.parametrize("encoded", [
    encode(Image.fromarray(scene()).convert("CMYK"), "JPEG"),  # four components
    encode(scene(), "JPEG").replace(b"\xff\xc0", b"\xff\xc9"),  # arithmetic coding
    encode(scene(), "JPEG").replace(b"\xff\xc0", b"\xff\xc3"),  # lossless
    encode(scene(), "JPEG").replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"),  # 12 bits
    b"\xff\xd8\xff\xd9", b"\xff\xd8" + b"\xff\xe0\x00\x02" * (jpeg.MAX_SEGMENTS + 1) + encode(scene(), "JPEG")[2:],
])  # fmt: skip
def test_what_is_out_of_the_ordinary_is_left_to_pillow(encoded: bytes) -> None:
    assert read_header(encoded) is None


@pytest.mark.parametrize(
    "spoil", [lambda e: e[:-2], lambda e: e[: len(e) // 2], lambda e: e[:-60] + b"\xff\xd9"]
)
def test_damage_of_any_degree_is_left_to_pillow(spoil: object) -> None:
    assert callable(spoil)
    encoded = spoil(encode(noise(64, 64), "JPEG"))
    header = read_header(encoded)
    assert header == JpegHeader(64, 64, 1, has_one_scan=True)
    assert decode_jpeg(encoded, header) is None


@pytest.mark.parametrize(("enough", "expected"), [
    ((800, 600), (800, 600)), ((401, 300), (800, 600)),  # less than half is gained: in full
    ((400, 300), (400, 300)), ((201, 150), (300, 225)), ((200, 150), (200, 150)), ((1, 1), (100, 75)),
])  # fmt: skip
def test_a_scaled_picture_is_the_smallest_that_is_enough(
    enough: tuple[int, int], expected: tuple[int, int]
) -> None:
    for orientation in (1, 6):
        encoded = encode(scene(800, 600), "JPEG", exif=b"Exif\x00\x00" + exif_of(orientation))
        header = read_header(encoded)
        assert header is not None
        turned = slice(None, None, -1 if orientation == 6 else 1)
        picture = decode_jpeg(encoded, header, enough[turned])
        assert picture is not None
        assert (picture.shape[1], picture.shape[0]) == expected[turned]


def test_the_interpreter_is_free_while_a_picture_is_decoded() -> None:
    encoded = encode(Image.fromarray(scene(2000, 1500)), "JPEG", quality=95)
    header = read_header(encoded)
    assert header is not None
    is_over, num_turns = threading.Event(), 0

    def decode_some() -> None:
        for _ in range(5):
            assert decode_jpeg(encoded, header) is not None
        is_over.set()

    thread = threading.Thread(target=decode_some)
    thread.start()
    while not is_over.is_set():
        time.sleep(0)
        num_turns += 1
    thread.join()
    assert num_turns > 50, "held, the five decodes would be about as many turns"


def test_a_body_of_nothing_but_fill_costs_no_time() -> None:
    """A loop of Python over each byte would hold the interpreter for seconds, and with it every other request."""
    size = ImageLimits().max_bytes
    sound = encode(Image.fromarray(noise(8, 8)), "JPEG")
    started = time.thread_time()
    assert read_header(b"\xff\xd8" + b"\xff" * size) is None
    header = read_header(sound[:2] + b"\xff" * size + sound[2:])
    assert time.thread_time() - started < 0.5
    assert header == read_header(sound)
