from __future__ import annotations

import asyncio
import base64
import struct
import threading
import time

import numpy as np
import pytest
from PIL import Image

from models.spec import Resize
from server import sniff
from server.decode import Decoded, Decoder, ImageLimits, decode, image_key
from server.errors import RequestFailedError
from tests.server.images import Pixels, encode, noise, png, png_chunk, scene, webp_lossless, with_size

LIMITS = ImageLimits(max_bytes=10_000_000, max_pixels=2_000_000, max_side=16_384)
JPEG = encode(scene(), "JPEG", quality=95)
PNG = encode(scene())


def code_of(encoded: bytes, limits: ImageLimits = LIMITS) -> str:
    with pytest.raises(RequestFailedError) as caught:
        decode(encoded, limits)
    return caught.value.code


@pytest.mark.parametrize(("kind", "options"), [
    ("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True}), ("PNG", {"optimize": True}),
])  # fmt: skip
def test_lossless_formats_come_back_as_they_were(kind: str, options: dict[str, bool]) -> None:
    np.testing.assert_array_equal(decode(encode(scene(), kind, **options), LIMITS), scene())


@pytest.mark.parametrize(("kind", "options"), [
    ("JPEG", {"quality": 95}), ("JPEG", {"quality": 95, "progressive": True}), ("WEBP", {"quality": 95}),
    ("JPEG", {"quality": 95, "subsampling": "4:1:1"}), ("JPEG", {"quality": 95, "restart_marker_rows": 1}),
    ("GIF", {}),
])  # fmt: skip
def test_lossy_formats_come_back_alike(kind: str, options: dict[str, object]) -> None:
    picture = decode(encode(scene(101, 67), kind, **options), LIMITS)
    assert picture.shape == (67, 101, 3)
    assert np.abs(picture.astype(int) - scene(101, 67)).mean() < 12


def test_bytes_decide_what_an_image_is() -> None:
    assert {
        name: sniff.image_format(encode(scene(), name)) for name in ("JPEG", "PNG", "GIF", "BMP", "WEBP")
    } == {name: name for name in ("JPEG", "PNG", "GIF", "BMP", "WEBP")}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    upright = Image.fromarray(scene())
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that undoes each orientation
    stored = upright.transpose(Image.Transpose(back[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode(encode(stored, kind, exif=exif, quality=95), LIMITS)
    assert picture.shape == (64, 96, 3)
    assert np.abs(picture.astype(int) - scene()).mean() < 4


@pytest.mark.parametrize("exif", [
    b"Exif\x00\x00", b"Exif\x00\x00II*\x00", b"Exif\x00\x00II*\x00\xff\xff\xff\xff", b"Exif\x00\x00" + b"\xff" * 60_000,
    b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x63\x00\x00\x00\x08\x00\x00\x00",
    b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x02\x00\x03\x00\x00\x00six\x00\x08\x00\x00\x00",
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_is_ignored(exif: bytes) -> None:
    np.testing.assert_array_equal(
        decode(encode(scene(), "JPEG", exif=exif), LIMITS), decode(encode(scene(), "JPEG"), LIMITS)
    )


def test_16_bit_grey_keeps_its_upper_bits() -> None:
    rows = b"".join(b"\x00" + struct.pack(">4H", 0, 255, 256 * 100 + 3, 65535) for _ in range(2))
    grey = decode(png(4, 2, 16, 0, rows), LIMITS)
    np.testing.assert_array_equal(
        grey, np.repeat(np.array([[[0], [0], [100], [255]]] * 2, np.uint8), 3, axis=2)
    )


def test_16_bit_colour_keeps_its_upper_bits() -> None:
    rows = b"\x00" + struct.pack(">6H", 0, 256 * 7 + 200, 65535, 256 * 128, 255, 256)
    np.testing.assert_array_equal(decode(png(2, 1, 16, 2, rows), LIMITS), [[[0, 7, 255], [128, 0, 1]]])


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_modes_without_transparency_become_rgb(mode: str) -> None:
    image = Image.fromarray(scene()).convert(mode)
    np.testing.assert_array_equal(decode(encode(image), LIMITS), np.asarray(image.convert("RGB")))


def test_transparency_is_laid_over_white_whatever_hides_below() -> None:
    hidden = np.dstack([np.full((2, 2, 3), (255, 0, 0), np.uint8), np.array([[0, 255], [128, 0]], np.uint8)])
    expected = [[[255, 255, 255], [255, 0, 0]], [[255, 127, 127], [255, 255, 255]]]
    assert np.abs(decode(encode(Image.fromarray(hidden)), LIMITS).astype(int) - expected).max() <= 1


def test_transparent_greys_palettes_and_colour_keys_are_white() -> None:
    grey_alpha = Image.fromarray(np.array([[[9, 0], [9, 255]]], np.uint8), "LA")
    np.testing.assert_array_equal(decode(encode(grey_alpha), LIMITS), [[[255] * 3, [9] * 3]])
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    np.testing.assert_array_equal(
        decode(encode(palette, transparency=b"\x00\xff"), LIMITS), [[[255] * 3, [40, 50, 60]]]
    )
    key = png_chunk(b"tRNS", struct.pack(">3H", 1, 2, 3))
    rows = b"\x00" + bytes([1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(decode(png(2, 1, 8, 2, rows, key), LIMITS), [[[255] * 3, [4, 5, 6]]])


def test_opaque_alpha_changes_nothing() -> None:
    opaque = np.dstack([scene(), np.full(scene().shape[:2], 255, np.uint8)])
    np.testing.assert_array_equal(decode(encode(Image.fromarray(opaque)), LIMITS), scene())


def test_cmyk_becomes_rgb() -> None:
    picture = decode(encode(Image.fromarray(scene()).convert("CMYK"), "JPEG", quality=95), LIMITS)
    assert np.abs(picture.astype(int) - scene()).mean() < 6


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_only_the_first_frame_of_an_animation_is_seen(kind: str) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "green", "blue")]
    encoded = encode(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    np.testing.assert_array_equal(decode(encoded, LIMITS), np.asarray(frames[0]))


@pytest.mark.parametrize(("encoded", "code"), [
    (b"\x00", "image_undecodable"), (b"\x00" * 1000, "image_undecodable"), (b"hello", "image_undecodable"),
    (b"<html><body>404</body></html>", "image_undecodable"), (b"BM", "image_undecodable"),
    (JPEG[: len(JPEG) // 2], "image_undecodable"), (JPEG[:-200], "image_undecodable"), (JPEG[:100], "image_undecodable"),
    (b"\xff\xd8\xff\xd9", "image_undecodable"), (b"\xff\xd8\xff" + b"\xff" * 5000, "image_undecodable"),
    (with_size(JPEG, 0, 0), "image_undecodable"), (with_size(JPEG, 48, 0), "image_undecodable"),
    (with_size(JPEG, 65500, 65500), "image_too_large"), (with_size(JPEG, 16385, 1), "image_too_large"),
    (PNG[: len(PNG) // 2], "image_undecodable"), (PNG[:20], "image_undecodable"),
    (PNG[:20] + b"\xff" + PNG[21:], "image_undecodable"),
    (png(0, 0), "image_undecodable"), (png(50_000, 50_000), "image_too_large"), (png(2**31 - 1, 1), "image_too_large"),
    (png(100_000, 1), "image_too_large"), (png(16_384, 16_384), "image_too_large"), (png(8, 8), "image_undecodable"),
    (webp_lossless(16_383, 16_383), "image_too_large"), (webp_lossless(8, 8), "image_undecodable"),
    (b"RIFF\x00\x00\x00\x00WEBP", "image_undecodable"), (b"RIFF\x00\x00\x00\x00WEBPVP8X" + b"\x00" * 8, "image_undecodable"),
    (encode(scene(), "WEBP")[:60], "image_undecodable"), (b"GIF89a", "image_undecodable"),
    (b"GIF89a\xff\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\xff\xff\xff\xff\x00\x08\x00;", "image_too_large"),
    (encode(scene(), "BMP")[:60], "image_undecodable"),
    (encode(scene(), "TIFF"), "unsupported_image_format"), (encode(scene(), "ICO"), "unsupported_image_format"),
    (encode(scene(), "PPM"), "unsupported_image_format"), (encode(scene(), "PDF"), "unsupported_image_format"),
    (encode(scene(), "EPS"), "unsupported_image_format"), (b"P7 100000 100000\n", "unsupported_image_format"),
    (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "unsupported_image_format"),
    (b"<svg/>", "unsupported_image_format"), (b"\x00\x00\x00\x20ftypavif", "unsupported_image_format"),
    (b"\x00\x00\x00\x18ftypheic", "unsupported_image_format"), (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "unsupported_image_format"),
    (b"8BPS\x00\x01", "unsupported_image_format"), (b"DDS |\x00", "unsupported_image_format"),
    (b"SIMPLE  =                    T", "unsupported_image_format"), (b"PK\x03\x04", "unsupported_image_format"),
    (b"\x7fELF\x02", "unsupported_image_format"), (b"\x80\x05\x95", "unsupported_image_format"),
    (b"\x00\x00\x00\x18ftypmp42", "unsupported_image_format"), (b"\x1f\x8b\x08", "unsupported_image_format"),
])  # fmt: skip
def test_what_is_not_a_served_image_is_refused(encoded: bytes, code: str) -> None:
    assert code_of(encoded) == code


def test_junk_behind_an_image_is_ignored() -> None:
    np.testing.assert_array_equal(decode(JPEG + b"<html>" * 100, LIMITS), decode(JPEG, LIMITS))


def test_sizes_are_refused_before_anything_is_decoded() -> None:
    solid = png(13_000, 13_000, 8, 0, bytes(13_001 * 13_000))  # 164 KB that would take half a gigabyte
    started = time.process_time()
    assert code_of(solid, ImageLimits()) == "image_too_large"
    assert time.process_time() - started < 0.2


@pytest.mark.parametrize("unit", [b"\xff\x01", b"\xff\xe2\x00\x02"])
def test_a_jpeg_of_endless_markers_is_refused_without_a_look_at_each(unit: bytes) -> None:
    """That would hold the interpreter for seconds, and with it every other request."""
    bomb = b"\xff\xd8\xff\x01" + unit * (19_000_000 // len(unit)) + b"\xff\xda" * 1000
    started = time.thread_time()
    assert sniff.num_jpeg_scans(bomb) == sniff.MAX_JPEG_SCANS + 1
    assert time.thread_time() - started < 1.0


def test_a_progressive_jpeg_of_endless_scans_is_refused_from_its_markers() -> None:
    progressive = encode(scene(), "JPEG", progressive=True)
    scans = sniff.num_jpeg_scans(progressive)
    assert 5 <= scans <= 20
    at = progressive.rindex(b"\xff\xda")
    bomb = progressive[:at] + progressive[at:-2] * 200 + b"\xff\xd9"
    assert sniff.num_jpeg_scans(bomb) == sniff.MAX_JPEG_SCANS + 1
    assert code_of(bomb) == "image_undecodable"
    assert sniff.num_jpeg_scans(JPEG + b"\xff\xda" * 1000) == 1, "scans behind the end do not count"


def test_mutilated_images_never_end_in_anything_but_an_error_of_ours() -> None:
    random = np.random.default_rng(0)
    outcomes = set()
    for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF"):
        original = np.frombuffer(encode(scene(48, 32), kind), np.uint8)
        for _ in range(150):
            mutated = original.copy()
            places = random.integers(0, len(mutated), random.integers(1, 6))
            mutated[places] = random.integers(0, 256, len(places))
            try:
                outcomes.add(
                    decode(mutated[: random.integers(1, len(mutated) + 1)].tobytes(), LIMITS).shape[2]
                )
            except RequestFailedError as error:
                outcomes.add(error.code)
    assert outcomes <= {3, "image_undecodable", "image_too_large", "unsupported_image_format"}
    assert {3, "image_undecodable"} <= outcomes


async def test_decode_into_gives_the_upright_size_and_fills_the_slot() -> None:
    decoder = Decoder(1, LIMITS)
    slot: Pixels = np.zeros((64, 64, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = await decoder.decode_into(
        slot, base64.b64encode(encode(scene(40, 20), exif=exif)).decode(), "letterbox"
    )
    assert decoded == Decoded(20, 40, None)
    assert (slot[:, 0] == 114).all()
    assert slot[:, 20:44].std() > 10
    decoder.close()


async def test_scaling_changes_few_pixels_a_little_and_not_what_is_said_of_the_size() -> None:
    encoded = encode(scene(1000, 600), "JPEG", quality=95)
    slots: list[Pixels] = [np.zeros((96, 96, 3), np.uint8) for _ in range(2)]
    for slot, scaling in zip(slots, (False, True), strict=True):
        decoder = Decoder(1, LIMITS, scaling)
        assert await decoder.decode_into(slot, encoded, "letterbox") == Decoded(1000, 600)
        decoder.close()
    in_full, scaled = (slot.astype(int) for slot in slots)
    assert 0 < np.abs(in_full - scaled).mean() < 4
    assert (in_full[:19] == 114).all() and (scaled[:19] == 114).all()


def test_a_picture_is_admitted_before_it_is_allocated_whoever_decodes_it() -> None:
    decoder = Decoder(1, ImageLimits(max_pixels=100 * 100))
    slot: Pixels = np.zeros((8, 8, 3), np.uint8)
    for kind in ("JPEG", "PNG", "WEBP"):
        with pytest.raises(RequestFailedError) as caught:
            decoder.decode(slot, encode(noise(101, 100), kind), "stretch")
        assert caught.value.code == "image_too_large"
        decoder.decode(slot, encode(noise(100, 100), kind), "stretch")  # nothing is held by those before
    decoder.close()


def test_damage_that_pillow_forgives_is_forgiven() -> None:
    at = JPEG.index(b"\xff\xdb")
    spoilt = JPEG[:at] + b"\x00\x00" + JPEG[at:]  # bytes between two segments
    np.testing.assert_array_equal(decode(spoilt, LIMITS), decode(JPEG, LIMITS))


async def test_a_cancelled_decode_ends_only_when_its_thread_has_let_go_of_the_slot() -> None:
    decoder = Decoder(1, LIMITS)
    is_writing, may_end, has_ended = threading.Event(), threading.Event(), threading.Event()

    def write() -> None:
        is_writing.set()
        may_end.wait(20)
        has_ended.set()

    running = asyncio.create_task(decoder.run(write))
    queued = asyncio.create_task(decoder.run(write))
    await asyncio.to_thread(is_writing.wait, 20)
    running.cancel()
    queued.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(queued, 20)  # it had not begun: at once
    for _ in range(3):
        await asyncio.sleep(0)
        running.cancel()  # again and again, it must not help
        assert not running.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 20)
    assert has_ended.is_set()
    decoder.close()


async def test_an_error_in_the_thread_comes_out_and_a_cancelled_one_is_not_reported_twice() -> None:
    decoder = Decoder(1, LIMITS)
    with pytest.raises(RequestFailedError):
        await decoder.decode_into(np.zeros((8, 8, 3), np.uint8), b"nothing", "stretch")
    is_running = threading.Event()

    def fail() -> None:
        is_running.set()
        time.sleep(0.05)
        raise ValueError

    task = asyncio.create_task(decoder.run(fail))
    await asyncio.to_thread(is_running.wait, 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    decoder.close()


def test_noise_of_every_small_size_decodes() -> None:
    for width, height in ((1, 1), (1, 7), (7, 1), (2, 3), (17, 9)):
        for kind in ("PNG", "BMP"):
            np.testing.assert_array_equal(
                decode(encode(noise(width, height), kind), LIMITS), noise(width, height)
            )


async def test_a_key_names_pixels_shape_and_mode() -> None:
    decoder = Decoder(1, LIMITS)

    async def key(picture: Pixels, resize: Resize = "square_bicubic", side: int = 32) -> str | None:
        slot: Pixels = np.zeros((side, side, 3), np.uint8)
        return (await decoder.decode_into(slot, encode(picture), resize, wants_key=True)).key

    picture = noise(32, 32, seed=1)
    changed = picture.copy()
    changed[31, 31, 2] ^= 1
    keys = [
        await key(picture),
        await key(changed),
        await key(picture, "stretch"),
        await key(picture, side=16),
    ]
    assert len({*keys}) == 4
    assert await key(picture) == keys[0]
    assert image_key(np.zeros((2, 8, 3), np.uint8), "stretch") != image_key(
        np.zeros((4, 4, 3), np.uint8), "stretch"
    )
    decoder.close()


async def test_the_same_pixels_have_one_key_however_they_were_encoded() -> None:
    decoder = Decoder(1, LIMITS)
    slots = [np.zeros((32, 32, 3), np.uint8) for _ in range(2)]
    png, bmp = encode(scene()), encode(scene(), "BMP")
    assert png != bmp
    keys = [
        (await decoder.decode_into(slot, each, "square_bicubic", wants_key=True)).key
        for slot, each in zip(slots, (png, bmp), strict=True)
    ]
    assert keys[0] == keys[1] is not None
    decoder.close()
