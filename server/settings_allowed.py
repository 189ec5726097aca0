"""What a setting may be, in words, from its declared type: ``'auto' or a whole number of at least 1``."""

from __future__ import annotations

import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_PATTERNS = {
    r"^(auto|cpu|cuda|cuda:\d+(,cuda:\d+)*)$": "auto, cpu, cuda or GPUs such as cuda:0 or cuda:0,cuda:2",
    r"^cuda:\d+$": "a GPU such as cuda:0",
    r"^https?://[^\s]+$": "an address that begins with http:// or https://, without blanks",
    r"^[0-9a-f]{64}$": "64 signs of 0-9a-f, as sha256sum prints them",
}
_PLAIN: Mapping[object, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
}
_BOUNDS = {
    "ge": "of at least {}",
    "gt": "above {}",
    "le": "of at most {}",
    "multiple_of": "a multiple of {}",
    "min_length": "that is not empty",
    "max_length": "of at most {} characters",
}


def allowed(field: FieldInfo) -> str:
    """The words for one field of a model."""
    return _words(field.annotation, field.metadata)


def _words(kind: Any, notes: list[Any]) -> str:
    if get_origin(kind) is Annotated:
        inner, *further = get_args(kind)
        return _words(inner, [*_unfolded(further), *notes])
    arguments = [argument for argument in get_args(kind) if argument is not types.NoneType]
    match get_origin(kind):
        case origin if origin is Literal:
            return _listed([repr(value) for value in arguments])
        case origin if origin in (Union, types.UnionType):
            return _listed([_words(argument, notes) for argument in arguments])
        case origin if origin is tuple:
            return "a list, or words with commas between them"
        case origin if origin is dict:
            name, value = arguments
            if isinstance(value, type) and issubclass(value, BaseModel):
                return "a table for each name"
            return f"a table with {_words(value, [])} for {_words(name, [])}"
    return _plain(kind, _unfolded(notes))


def _plain(kind: Any, notes: list[Any]) -> str:
    for note in notes:
        if pattern := getattr(note, "pattern", None):
            return _PATTERNS[pattern]
    bounds = [text for note in notes if (text := _bound(note))]
    return " ".join([_PLAIN[kind], *([_joined(bounds)] if bounds else [])])


def _bound(note: Any) -> str:
    for name, words in _BOUNDS.items():
        if (value := getattr(note, name, None)) is not None:
            return words.format(value)
    return ""


def _joined(bounds: list[str]) -> str:
    first, *others = bounds
    return ", ".join([first, *(text.removeprefix("of ") for text in others)])


def _listed(options: list[str]) -> str:
    *first, last = options
    return f"{', '.join(first)} or {last}" if first else last


def _unfolded(notes: list[Any]) -> list[Any]:
    """Annotations, those inside a `Field` too."""
    return [inner for note in notes for inner in (note.metadata if isinstance(note, FieldInfo) else [note])]
