"""multipart/form-data, parsed in memory: one file named ``image`` or ``file``, the options as fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from server.errors import RequestFailedError

if TYPE_CHECKING:  # declared for type checkers only
    from python_multipart.multipart import MultipartCallbacks

FILE_NAMES = ("image", "file")
LIST_NAME = "images"
"""Where there may be several, besides."""
MAX_PARTS = 64
REPEATED = "prompts"
"""The one field that may be there several times, in order."""
MAX_DISPOSITION_BYTES = 512
"""As with the content type of the whole, see server.intake."""
MAX_LONG_DISPOSITION_BYTES = 1280
"""Of one part: the longest name of a file twice, in base64 and with escapes, as .NET writes it."""
MAX_FIELD_BYTES = 64 * 1024
OVERHEAD_BYTES = 256 * 1024
"""What a form may be larger than the image in it."""


@dataclass(slots=True)
class Form:
    """A parsed form."""

    images: list[bytes]
    fields: dict[str, str] = field(default_factory=dict)
    prompts: list[str] = field(default_factory=list)


def parse_form(content_type: str, body: bytes, max_image_bytes: int, max_images: int = 1) -> Form:
    """One image, or up to `max_images` of which some may be empty; more are ``invalid_parameter``.

    Raises RequestFailedError ``invalid_multipart``, ``body_too_large`` or ``empty_body``."""
    _, options = parse_options_header(content_type)
    # The parser looks at what begins like a part sign by sign, 20 MB of it for seconds; no content may begin so.
    if body.count(b"\r\n--" + options.get(b"boundary", b"")) > MAX_PARTS + max_images:
        raise RequestFailedError("invalid_multipart")
    collector = _Collector(max_image_bytes, max_images)
    try:
        parser = MultipartParser(options.get(b"boundary", b""), collector.callbacks(), max_header_count=8)
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise RequestFailedError("invalid_multipart") from None
    if not collector.is_complete or not options.get(b"boundary"):
        raise RequestFailedError("invalid_multipart")
    return collector.form()


class _Collector:
    def __init__(self, max_image_bytes: int, max_images: int) -> None:
        self._max_images = max_images
        self._file_names = FILE_NAMES if max_images == 1 else (*FILE_NAMES, LIST_NAME)
        self._images: list[bytearray] = []
        self._max_image_bytes = max_image_bytes
        self._parts: dict[str, bytearray] = {}
        self._prompts: list[bytearray] = []
        self._headers: dict[bytes, bytes] = {}
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._part = bytearray()
        self._limit = 0
        self._has_long = False
        self.is_complete = False

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._headers.clear,
            "on_header_field": lambda chunk, start, end: self._header_name.extend(chunk[start:end]),
            "on_header_value": lambda chunk, start, end: self._header_value.extend(chunk[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_content,
            "on_part_data": self._add_content,
            "on_end": self._end,
        }

    def _end_header(self) -> None:
        self._headers[bytes(self._header_name).lower()] = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _begin_content(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"")
        if len(disposition) > MAX_DISPOSITION_BYTES:
            if self._has_long or len(disposition) > MAX_LONG_DISPOSITION_BYTES:
                raise RequestFailedError("invalid_multipart")
            self._has_long = True
        kind, options = parse_options_header(disposition.decode("latin-1"))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        num_parts = len(self._parts) + len(self._prompts) + len(self._images)
        max_parts = MAX_PARTS - 1 + self._max_images
        is_image = name in self._file_names
        if kind != b"form-data" or not name or name in self._parts or num_parts >= max_parts:
            raise RequestFailedError("invalid_multipart")
        self._limit = self._max_image_bytes if is_image else MAX_FIELD_BYTES
        self._part = bytearray()
        if is_image:
            self._add_image()
        elif name == REPEATED:
            self._prompts.append(self._part)
        else:
            self._parts[name] = self._part

    def _add_image(self) -> None:
        if len(self._images) == self._max_images:
            is_list = self._max_images > 1
            raise RequestFailedError(
                *(("invalid_parameter", "images") if is_list else ("invalid_multipart",))
            )
        self._images.append(self._part)

    def _add_content(self, chunk: bytes, start: int, end: int) -> None:
        if len(self._part) + end - start > self._limit:
            raise RequestFailedError("body_too_large")
        self._part += memoryview(chunk)[start:end]

    def _end(self) -> None:
        self.is_complete = True

    def form(self) -> Form:
        if not self._images:
            raise RequestFailedError("invalid_multipart")
        if self._max_images == 1 and not self._images[0]:
            raise RequestFailedError("empty_body")
        try:
            return Form(
                [bytes(image) for image in self._images],
                {name: part.decode() for name, part in self._parts.items()},
                [part.decode() for part in self._prompts],
            )
        except UnicodeDecodeError:
            raise RequestFailedError("invalid_multipart") from None
