"""What a client wants the answer as: JSON, or a picture with the answer drawn on it (RFC 9110, section 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from starlette.types import Scope

from server.errors import RequestFailedError
from server.sketch import PictureKind

MEDIA_TYPES: Mapping[PictureKind, str] = {"JPEG": "image/jpeg", "PNG": "image/png"}

_OFFERS: Sequence[tuple[str, PictureKind | None]] = (
    ("application/json", None),
    *((name, kind) for kind, name in MEDIA_TYPES.items()),
)
"""What there is, in the order in which it is given to who wants all alike."""
_RANGE = re.compile(r"(\*|[!#$%&'*+.^_`|~0-9A-Za-z-]+)/(\*|[!#$%&'*+.^_`|~0-9A-Za-z-]+)")
_QUALITY = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


def picture_kind(scope: Scope) -> PictureKind | None:
    """The kind of picture that a request's Accept asks for; None for JSON, which is what everybody gets who does not
    name a picture. Raises RequestFailedError ``not_acceptable`` for who wants nothing but pictures of other kinds."""
    accepted = ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"accept")
    ranges = dict(_ranges(accepted))
    best: tuple[float, int] = (0.0, 0)
    chosen: PictureKind | None = None
    for name, kind in _OFFERS:
        wish = _wish(name, ranges)
        if wish[0] > 0 and wish > best:
            best, chosen = wish, kind
    if best[0] == 0 and any(name.startswith("image/") for name in ranges):
        raise RequestFailedError("not_acceptable")
    return chosen


def _ranges(accepted: str) -> Iterable[tuple[str, float]]:
    """Media ranges and how much each is wanted, from 0 to 1; what cannot be read says nothing."""
    for part in accepted.split(","):
        name, *parameters = (each.strip() for each in part.lower().split(";"))
        quality = next((each[2:] for each in parameters if each[:2] == "q="), "1")
        if _RANGE.fullmatch(name) and _QUALITY.fullmatch(quality):
            yield name, float(quality)


def _wish(name: str, ranges: Mapping[str, float]) -> tuple[float, int]:
    """How much `name` is wanted, by the range that says it most exactly, and how exactly that is."""
    family = name.partition("/")[0]
    for exactness, each in ((3, name), (2, f"{family}/*"), (1, "*/*")):
        if each in ranges:
            return ranges[each], exactness
    return 0.0, 0
