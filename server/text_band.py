"""Answers in words: a band below the picture, which itself stays as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw

from server.lettering import font_of, wrapped
from server.palette import BLACK, WHITE
from server.sketch import MIN_BAND_WIDTH, max_band_height

_QUIET = (190, 190, 190)
MAX_LINES = 60


def texts_of(answer: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """What is said, each with whether it is an answer; else it is a question."""
    texts: list[tuple[str, bool]] = []
    for each in answer.get("top") or ():
        texts.append((f"{each['confidence']:.2f} {each['label']}", True))
    several = answer.get("answers") or answer.get("captions")
    for each in several or ([answer] if {"answer", "caption"} & answer.keys() else []):
        if "answer" in each:
            texts.append((str(each.get("prompt") or ""), False))
            texts.append((str(each["answer"]), True))
        else:
            texts.append((str(each["caption"]), True))
    return [(text, is_answer) for text, is_answer in texts if text.strip()]


def with_band(picture: Image.Image, texts: Sequence[tuple[str, bool]], font_size: int) -> Image.Image:
    """`picture` at the top left of a larger one with `texts` below it."""
    font = font_of(font_size)
    width = max(picture.width, MIN_BAND_WIDTH)
    margin = max(font_size // 2, 4)
    line_height = sum(font.getmetrics()) + max(font_size // 6, 1)
    max_lines = min(max((max_band_height(picture.height) - 2 * margin) // line_height, 1), MAX_LINES)
    lines: list[tuple[str, bool]] = []
    for text, is_answer in texts:
        room = max_lines - len(lines)
        lines += [(line, is_answer) for line in wrapped(text, font, width - 2 * margin, room)]
    height = picture.height + 2 * margin + len(lines) * line_height
    canvas = Image.new("RGB", (width, height), BLACK)
    canvas.paste(picture, (0, 0))
    draw = ImageDraw.Draw(canvas)
    for number, (line, is_answer) in enumerate(lines):
        top = picture.height + margin + number * line_height
        draw.text((margin, top), line, fill=WHITE if is_answer else _QUIET, font=font)
    return canvas
