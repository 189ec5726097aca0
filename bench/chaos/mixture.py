"""Good and bad requests at random, each knowing what it has to be answered."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections import Counter
from urllib.parse import urlsplit

from bench.chaos.questions import NumberedPictures, Question
from bench.client import build_post

_BAD = 1 / 3
"""Of those that are not aborted: 30 % of all where a tenth is."""

_IDAT = b"\0\0\x10\0IDAT"

BAD_KINDS = {
    "noise": (422, "image_undecodable"),
    "truncated": (422, "image_undecodable"),
    "tiff": (415, "unsupported_image_format"),
    "huge": (422, "image_too_large"),
    "empty": (400, "empty_body"),
    "text": (415, "unsupported_media_type"),
    "unknown_model": (404, "model_not_found"),
    "unknown_page": (404, "not_found"),
    "parameter": (400, "invalid_parameter"),
    "broken_json": (400, "invalid_json"),
    "unknown_field": (400, "unknown_field"),
    "base64": (400, "invalid_base64"),
    "no_image": (400, "exactly_one_image_source"),
}


class Mixture:
    """A source, see `bench.chaos.questions.Source`; `kinds` counts what it gave."""

    def __init__(self, url: str, model: str, side: int) -> None:
        self.kinds: Counter[str] = Counter()
        self._host, self._model = urlsplit(url).netloc, model
        self._good = NumberedPictures(url, model, side)

    def question(self, number: int, request_id: str) -> Question:
        """Two of three are good."""
        choice = random.Random(~number)
        if choice.random() >= _BAD:
            return self.good(number, request_id)
        kind = choice.choice(list(BAD_KINDS))
        self.kinds[kind] += 1
        return Question(number, self._bad(kind, choice, request_id), lambda answer: True, BAD_KINDS[kind])

    def good(self, number: int, request_id: str) -> Question:
        """A picture that can be answered."""
        self.kinds["good"] += 1
        return self._good.question(number, request_id)

    def _bad(self, kind: str, choice: random.Random, request_id: str) -> bytes:
        path, content_type, body = f"/inference?model_id={self._model}", "image/png", b""
        json_fields = {"model_id": self._model, "image_base64": "iVBORw0KGgo="}
        match kind:
            case "noise":
                body = b"?" + choice.randbytes(2000)
            case "truncated":
                body = _png_head(32, 32) + _IDAT + choice.randbytes(64)
            case "tiff":
                body = b"II*\0" + choice.randbytes(200)
            case "huge":
                body = _png_head(50_000, 50_000) + _IDAT
            case "text":
                content_type, body = "text/plain", b"a picture"
            case "unknown_model":
                path, body = f"/inference?model_id=none-{choice.getrandbits(40)}", b"x"
            case "unknown_page":
                path, body = f"/{choice.getrandbits(40)}", b"x"
            case "parameter":
                path, body = f"{path}&confidence=2", b"x"
            case "broken_json":
                body = b'{"model_id": '
            case "unknown_field":
                body = json.dumps({**json_fields, "colour": "blue"}).encode()
            case "base64":
                body = json.dumps({**json_fields, "image_base64": "A==="}).encode()
            case "no_image":
                body = json.dumps({"model_id": self._model}).encode()
        if kind in ("broken_json", "unknown_field", "base64", "no_image"):
            path, content_type = "/inference", "application/json"
        return build_post(self._host, path, content_type, body, request_id)


def _png_head(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
