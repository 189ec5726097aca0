"""Pictures as strangers send them, each with what the server may say: made here, down to the last byte."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tests.server.images import encode, noise, png, png_chunk, scene, webp_lossless, with_size

OK, UNDECODABLE, TOO_LARGE, UNSUPPORTED = (
    "ok", "image_undecodable", "image_too_large", "unsupported_image_format",
)  # fmt: skip
STATUS = {OK: 200, UNDECODABLE: 422, TOO_LARGE: 422, UNSUPPORTED: 415}
MEGABYTE = 2**20
ROWS = (b"\x00" + bytes(24)) * 8
"""Of a black PNG of 8 x 8 in colour."""


@dataclass(frozen=True)
class Hostile:
    """One case of the catalogue; `codes` are those that it may be answered with."""

    make: Callable[[], bytes]
    codes: frozenset[str]


CASES: dict[str, Hostile] = {}


def case(name: str, *codes: str) -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    """Adds the function below it."""

    def add(make: Callable[[], bytes]) -> Callable[[], bytes]:
        assert name not in CASES
        CASES[name] = Hostile(make, frozenset(codes))
        return make

    return add


def jpeg(**options: object) -> bytes:
    """A sound one of 96 x 64."""
    return encode(scene(), "JPEG", **options)


def segment(marker: int, content: bytes) -> bytes:
    """One of a JPEG, with its length."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def with_segments(*segments: bytes, to: bytes = b"") -> bytes:
    """A JPEG with these in front of its own."""
    sound = to or jpeg()
    return sound[:2] + b"".join(segments) + sound[2:]


def exif(*entries: bytes, link: int = 0) -> bytes:
    """A little-endian directory of these entries of 12 bytes, which goes on at `link`."""
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", link)
    return b"Exif\x00\x00II*\x00\x08\x00\x00\x00" + directory


def exif_entry(tag: int, kind: int, count: int, value: int) -> bytes:
    """One entry."""
    return struct.pack("<HHII", tag, kind, count, value)


def with_frame(kind: int, precision: int = 8) -> bytes:
    """A JPEG whose frame header claims another process or precision."""
    return jpeg().replace(b"\xff\xc0\x00\x11\x08", bytes([0xFF, kind, 0, 17, precision]))


def progressive_bomb(width: int, height: int, num_scans: int) -> bytes:
    """A solid progressive JPEG whose last scan comes again and again."""
    solid = encode(Image.new("L", (width, height)), "JPEG", progressive=True)
    at = solid.rindex(b"\xff\xda")
    return solid[:at] + solid[at:-2] * num_scans + solid[-2:]


def png_with(*chunks: bytes, behind: bytes = b"") -> bytes:
    """A sound PNG of 8 x 8 with these in front of the pixels."""
    sound = png(8, 8, 8, 2, ROWS, *chunks)
    return sound[:-12] + behind + sound[-12:]


def apng(num_frames: int) -> bytes:
    """Of frames of 8 x 8."""
    rows = zlib.compress(ROWS)
    frames = []
    for number in range(1, num_frames):
        control = struct.pack(">IIIIIHHBB", 2 * number - 1, 8, 8, 0, 0, 1, 10, 0, 0)
        frames += [png_chunk(b"fcTL", control), png_chunk(b"fdAT", struct.pack(">I", 2 * number) + rows)]
    first = png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 8, 8, 0, 0, 1, 10, 0, 0))
    return png_with(png_chunk(b"acTL", struct.pack(">II", num_frames, 0)), first, behind=b"".join(frames))


GIF_PALETTE = bytes([200, 10, 20, 0, 255, 0, 0, 0, 255, 255, 255, 0])
"""Of four colours."""


def gif_frame(width: int, height: int, left: int = 0, top: int = 0, index: int = 0) -> bytes:
    """A solid one, as a GIF of four colours has it: two bits a pixel, and a clear code before each."""
    codes = [code for _ in range(width * height) for code in (4, index)] + [5]
    bits = sum(code << 3 * at for at, code in enumerate(codes))
    packed = bits.to_bytes((3 * len(codes) + 7) // 8, "little")
    blocks = b"".join(
        bytes([len(packed[at : at + 255])]) + packed[at : at + 255] for at in range(0, len(packed), 255)
    )
    return b"," + struct.pack("<HHHHB", left, top, width, height, 0) + b"\x02" + blocks + b"\x00"


def gif(width: int, height: int, *blocks: bytes) -> bytes:
    """A GIF of four colours."""
    return (
        b"GIF89a" + struct.pack("<HHBBB", width, height, 0x81, 0, 0) + GIF_PALETTE + b"".join(blocks) + b";"
    )


def bmp(width: int, height: int, depth: int, rows: bytes, compression: int = 0, more: bytes = b"") -> bytes:
    """With the usual header; `more` stands between it and the pixels."""
    begin = 54 + len(more)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, depth, compression, len(rows), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", begin + len(rows), 0, 0, begin) + header + more + rows


def webp_extended(width: int, height: int, *chunks: bytes, flags: int = 0) -> bytes:
    """An extended WebP of these chunks."""
    canvas = bytes([flags, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBP" + webp_chunk(b"VP8X", canvas) + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_chunk(kind: bytes, content: bytes) -> bytes:
    """One, padded."""
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def animated_webp(num_frames: int) -> bytes:
    """Of lossless frames of 8 x 8."""
    still = encode(noise(8, 8), "WEBP", lossless=True)[12:]
    frame = webp_chunk(b"ANMF", bytes(6) + b"\x07\x00\x00\x07\x00\x00\x0a\x00\x00\x00" + still)
    return webp_extended(8, 8, webp_chunk(b"ANIM", bytes(6)), frame * num_frames, flags=2)


def _constant(content: bytes) -> Callable[[], bytes]:
    return lambda: content


def _add_all(codes: tuple[str, ...], contents: Mapping[str, Callable[[], bytes]]) -> None:
    for name, make in contents.items():
        case(name, *codes)(make)


_add_all((UNDECODABLE,), {
    "I1 one byte": _constant(b"\x00"), "I1 text": _constant(b"hello"), "I1 a page": _constant(b"<html>404</html>"),
    "I1 zeros": _constant(bytes(1000)),
    "I2 JPEG half": lambda: jpeg()[: len(jpeg()) // 2], "I2 JPEG header only": lambda: jpeg()[:300],
    "I2 JPEG two markers": _constant(b"\xff\xd8\xff\xd9"), "I2 JPEG without its end": lambda: jpeg()[:-2],
    "I5 JPEG 0 x 0": lambda: with_size(jpeg(), 0, 0), "I5 JPEG 48 x 0": lambda: with_size(jpeg(), 48, 0),
    "I5 JPEG 24 megapixels in 1 KB": lambda: with_size(jpeg(), 6000, 4000),
    "I7 JPEG arithmetic": lambda: with_frame(0xC9), "I7 JPEG 12 bits": lambda: with_frame(0xC1, 12),
    "I7 JPEG lossless": lambda: with_frame(0xC3), "I7 JPEG hierarchical": lambda: with_frame(0xC5),
    "I7 JPEG 200 scans": lambda: progressive_bomb(640, 480, 200),
    "I7 JPEG 60 scans of 24 megapixels": lambda: progressive_bomb(6000, 4000, 60),
    "I7 JPEG a million segments": lambda: with_segments(b"\xff\xe3\x00\x02" * MEGABYTE),
    "I7 JPEG fill without end": lambda: jpeg()[:2] + b"\xff" * MEGABYTE + b"\x00" + b"\xff\xda" * 200,
    "I7 JPEG 2 MB of tables": lambda: with_segments(segment(0xDB, (b"\x00" + b"\x01" * 64) * 1000) * 32, to=with_frame(0xC0)[:-2]),
    "I7 JPEG two frames": lambda: with_segments(segment(0xC0, b"\x08\x00\x10\x00\x10\x01\x01\x11\x00"), to=jpeg()),
    "I10 PNG half": lambda: png_with()[:45], "I10 PNG header's checksum": lambda: png_with()[:29] + b"\x00" + png_with()[30:],
    "I10 PNG 0 x 0": lambda: png(0, 0), "I10 PNG rubbish for pixels": lambda: png_with()[:33] + png_chunk(b"IDAT", b"\x01" * 99),
    "I10 PNG no pixels": lambda: png_with()[:33] + png_chunk(b"IEND", b""),
    "I11 PNG 24 megapixels in 100 bytes": lambda: png(6000, 4000, 8, 2, ROWS),
    "I13 PNG depth 3": lambda: png(8, 8, 3, 0, ROWS), "I13 PNG colour 5": lambda: png(8, 8, 8, 5, ROWS),
    "PNG a short header with a right checksum": lambda: png_with()[:20] + struct.pack(">I", zlib.crc32(png_with()[12:20])),
    "PNG a million chunks": lambda: png_with(png_chunk(b"tEXt", b"") * MEGABYTE),
    "I15 GIF without frame": lambda: gif(8, 8), "GIF 2 million blocks": lambda: gif(8, 8, b"!\xfe" + b"\x01a" * (2 * MEGABYTE) + b"\x00", gif_frame(8, 8)),
    "GIF 24 megapixels in a frame of 1 KB": lambda: gif(6000, 4000, gif_frame(8, 8).replace(b"\x08\x00\x08\x00", struct.pack("<HH", 6000, 4000))),
    "GIF a frame of 0 x 0": lambda: gif(8, 8, gif_frame(0, 0)),
    "BMP truncated": lambda: bmp(64, 64, 24, bytes(64 * 64)), "BMP 24 megapixels in 1 KB": lambda: bmp(6000, 4000, 24, bytes(1000)),
    "BMP run lengths that draw nothing": lambda: bmp(1000, 1000, 8, b"\x00\x02\x00\x00" * 4 * MEGABYTE, 1, bytes(1024)),
    "BMP of depth 7": lambda: bmp(8, 8, 7, bytes(1000)), "BMP with a JPEG inside": lambda: bmp(96, 64, 0, jpeg(), 4),
    "BMP negative width": lambda: bmp(-8, 8, 24, bytes(1000)), "BMP of two letters": _constant(b"BM"),
    "I17 WebP half": lambda: encode(noise(64, 64), "WEBP")[:200], "I17 WebP frame only": _constant(b"RIFF\x04\x00\x00\x00WEBP"),
    "I17 WebP nothing behind the header": lambda: webp_lossless(6000, 4000),
    "I17 WebP extended, no frame": lambda: webp_extended(6000, 4000),
    "I17 WebP extended header of no length": lambda: webp_extended(8, 8).replace(b"VP8X\x0a", b"VP8X\x00"),
    "I17 WebP Huffman tables of rubbish": lambda: _vp8l_with_rubbish(),
    "I17 WebP a million chunks": lambda: webp_extended(8, 8, webp_chunk(b"XXXX", b"") * MEGABYTE),
})  # fmt: skip
_add_all((TOO_LARGE,), {
    "I5 JPEG 65500 x 65500": lambda: with_size(jpeg(), 65500, 65500),
    "I11 PNG 50000 x 50000": lambda: png(50_000, 50_000), "I11 PNG 13000 x 13000": lambda: png(13_000, 13_000, 1, 0, bytes(1626 * 13_000)),
    "I10 PNG 2^31 wide": lambda: png(2**31 - 1, 1), "I12 PNG 100000 x 1": lambda: png(100_000, 1, 8, 0, bytes(100_001)),
    "I12 PNG 1 x 100000": lambda: png(1, 100_000, 8, 0, bytes(200_000)), "I12 PNG 16384 x 16384": lambda: png(16_384, 16_384),
    "I15 GIF 65535 x 65535": lambda: gif(65535, 65535, gif_frame(8, 8)), "GIF a frame far outside": lambda: gif(8, 8, gif_frame(8, 8, 60_000)),
    "I17 WebP 16383 x 16383": lambda: webp_lossless(16383, 16383), "I17 WebP canvas of 2^24": lambda: webp_extended(2**24, 2**24),
    "BMP 2^31 wide": lambda: bmp(2**31 - 1, 2**31 - 1, 24, b""), "BMP run lengths of 4 megapixels": lambda: bmp(2000, 2000, 8, b"\x00\x01", 1, bytes(1024)),
})  # fmt: skip
_add_all((OK,), {
    "I3 JPEG with junk behind": lambda: jpeg() + b"<script>" * 1000, "I3 JPEG and page": lambda: with_segments(segment(0xFE, b"<html>")),
    "I7 JPEG grey": lambda: encode(Image.fromarray(scene()).convert("L"), "JPEG"), "I7 JPEG CMYK": lambda: encode(Image.fromarray(scene()).convert("CMYK"), "JPEG"),
    "I7 JPEG progressive": lambda: jpeg(progressive=True), "I7 JPEG restarts": lambda: jpeg(restart_marker_blocks=1),
    "I7 JPEG 4:1:1": lambda: jpeg(subsampling="4:1:1"), "I7 JPEG 17 x 9": lambda: encode(scene(17, 9), "JPEG"),
    "I7 JPEG 4,000 segments": lambda: with_segments(b"\xff\xe3\x00\x02" * 4000), "I7 JPEG 30 scans": lambda: progressive_bomb(640, 480, 30),
    "I7 MPO": lambda: with_segments(segment(0xE2, b"MPF\x00II*\x00\x08\x00\x00\x00" + b"\xff" * 200)),
    "I8 EXIF 64 KB": lambda: with_segments(segment(0xE1, exif(*[exif_entry(0x112, 2, 0xFFFFFFFF, 8)] * 5000))),
    "I8 EXIF loop": lambda: with_segments(segment(0xE1, exif(exif_entry(0x8769, 4, 1, 8), exif_entry(0x8825, 4, 1, 8), link=8))),
    "I8 EXIF 99": lambda: with_segments(segment(0xE1, exif(exif_entry(0x112, 3, 1, 99)))), "I8 EXIF text": lambda: with_segments(segment(0xE1, exif(exif_entry(0x112, 2, 4, 0x35343332)))),
    "I8 EXIF rubbish": lambda: with_segments(segment(0xE1, b"Exif\x00\x00" + b"\xff" * 60_000)), "I8 EXIF many": lambda: with_segments(segment(0xE1, exif()) * 1000),
    "I8 CMYK with an EXIF loop": lambda: with_segments(segment(0xE1, exif(exif_entry(0x8769, 4, 1, 8), link=8)), to=encode(Image.fromarray(scene()).convert("CMYK"), "JPEG")),
    "I8 ICC 16 MB": lambda: with_segments(segment(0xE2, b"ICC_PROFILE\x00\x01\xff" + bytes(65_000)) * 250), "I8 Photoshop 4 MB": lambda: with_segments(segment(0xED, b"Photoshop 3.0\x00" + b"8BIM\x00\x01\x00\x00\x00\x00\x00\x00" * 5000) * 70),
    "I10 PNG without its end": lambda: png_with()[:-12], "I12 PNG 1 x 1": lambda: png(1, 1, 8, 0, b"\x00\x00"), "I12 PNG 16384 x 1": lambda: png(16_384, 1, 8, 0, bytes(16_385)),
    "I13 PNG palette without PLTE": lambda: png(4, 1, 8, 3, b"\x00\x00\x01\x02\xff"), "I13 PNG interlaced": lambda: _interlaced(), "I13 PNG index outside of the palette": lambda: png(2, 1, 8, 3, b"\x00\x00\xff", png_chunk(b"PLTE", b"abc")),
    "PNG 16,000 profiles of 1 MB": lambda: png_with(png_chunk(b"iCCP", b"x\x00\x00" + zlib.compress(bytes(10**6))) * 16_000),
    "PNG 16,000 texts of 1 MB": lambda: png_with(png_chunk(b"zTXt", b"\x00\x00" + zlib.compress(bytes(10**6))) * 16_000), "PNG 16 MB of text": lambda: png_with(png_chunk(b"tEXt", b"Comment\x00" + b"a" * (16 * MEGABYTE))),
    "PNG text of 20 MB": lambda: png_with(png_chunk(b"iTXt", b"x\x00\x01\x00\x00\x00" + zlib.compress(bytes(20 * 10**6)))), "PNG a text called transparency": lambda: png_with(png_chunk(b"tEXt", b"transparency\x00no")),
    "I8 PNG EXIF 60,000 entries": lambda: png_with(png_chunk(b"eXIf", exif(*[exif_entry(0x112, 2, 0xFFFFFFFF, 8)] * 60_000)[6:])),
    "I15 APNG 9,000 frames": lambda: apng(9_000), "I15 GIF 10,000 frames": lambda: gif(8, 8, gif_frame(8, 8) * 10_000), "I15 WebP 10,000 frames": lambda: animated_webp(10_000),
    "I15 GIF frame inside of the canvas": lambda: gif(64, 48, gif_frame(8, 8, 10, 20)), "I15 GIF with no canvas": lambda: gif(0, 0, gif_frame(8, 8)),
    "BMP top down": lambda: bmp(2, -2, 24, bytes(16)), "BMP run lengths of 4 pixels": lambda: bmp(4, 1, 8, b"\x04\x01\x00\x00\x00\x01", 1, bytes(1024)),
    "I21 a PNG that is called a JPEG": lambda: encode(scene()), "I23 black": lambda: encode(Image.new("RGB", (640, 640)), "JPEG"), "I23 white": lambda: encode(Image.new("RGB", (640, 640), "white"), "JPEG"), "I23 noise": lambda: encode(noise(640, 640), "JPEG", quality=95),
})  # fmt: skip
_add_all((OK, UNDECODABLE), {
    "I4 JPEG one bit": lambda: _one_bit(jpeg(), len(jpeg()) - 400), "I10 PNG bad pixels' checksum": lambda: _one_bit(png_with(), len(png_with()) - 14),
    "I8 EXIF in two": lambda: with_segments(segment(0xE1, b"Exif\x00\x00II*\x00\x08\x00"), segment(0xE1, b"Exif\x00\x00\x00\x00\x01\x00")),
})  # fmt: skip
_add_all((UNSUPPORTED,), {
    **{f"I19 {kind}": (lambda kind=kind: encode(scene(), kind)) for kind in ("TIFF", "ICO", "EPS", "PDF", "PPM", "AVIF", "JPEG2000")},  # type: ignore[misc]
    **{f"I19 {name}": _constant(content) for name, content in {
        "SVG": b"<svg/>", "HEIC": b"\x00\x00\x00\x18ftypheic", "PSD": b"8BPS\x00\x01", "FITS": b"SIMPLE  =                    T",
        "DDS": b"DDS |\x00", "WMF": b"\xd7\xcd\xc6\x9a", "a PPM of 10^10 pixels": b"P6 100000 100000 255\n", "JPEG XL": b"\xff\x0a\x00",
    }.items()},
    **{f"I20 {name}": _constant(content) for name, content in {
        "film": b"\x00\x00\x00\x18ftypmp42", "zip": b"PK\x03\x04" + bytes(30), "ELF": b"\x7fELF\x02", "pickle": b"\x80\x05\x95", "gzip": b"\x1f\x8b\x08", "PE": b"MZ\x90",
    }.items()},
})  # fmt: skip


def _one_bit(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]


def _vp8l_with_rubbish() -> bytes:
    """As in CVE-2023-4863: code lengths that a table was not made for."""
    random = np.random.default_rng(4863).bytes(4000)
    chunk = webp_chunk(b"VP8L", b"\x2f" + (63 | 63 << 14).to_bytes(4, "little") + random)
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


def _interlaced() -> bytes:
    """Black, 8 x 8, in the seven passes of Adam7."""
    passes = [(1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4)]
    rows = b"".join((b"\x00" + bytes(width)) * height for width, height in passes)
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 1))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
