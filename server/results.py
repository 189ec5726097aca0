"""The reply to an inference: the worker's JSON fragment, spliced in as it came, and the time each stage took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import orjson

from pool import Result
from server.body import BodyShare
from server.negotiation import MEDIA_TYPES
from server.replies import JsonReply, PictureReply
from server.sketch import PictureKind

Origin = Literal["", "miss", "shared", "hit"]
STAGES = ("fetch", "decode", "queue", "infer", "post", "draw", "total")
_VARY = {"vary": "accept"}


@dataclass(slots=True)
class Timings:
    """Float seconds per stage; a stage that did not happen is 0."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    def add(self, stages: Mapping[str, float]) -> None:
        """Take over what is one of STAGES."""
        self.seconds.update({name: value for name, value in stages.items() if name in self.seconds})

    def milliseconds(self) -> dict[str, float]:
        """Rounded to microseconds."""
        return {name: round(value * 1000, 3) for name, value in self.seconds.items()}


@dataclass(frozen=True, slots=True)
class Answered:
    """Everything the reply is made of. `size` is the upright image's (width, height) in pixels; `origin` where the
    answer came from: run for this request, for an equal one at the same time or before; empty where none is shared.
    `picture` is the image with the answer drawn on it, where that was asked for."""

    model_id: str
    task: str
    size: tuple[int, int]
    result: Result
    timings: Timings
    origin: Origin = ""
    picture: bytes = b""


def reply_to(answered: Answered, request_id: str) -> JsonReply:
    """The 200. Raises ValueError if the worker's fragment is not a JSON object."""
    return JsonReply(body_of(answered, request_id), headers=timing_headers(answered) | _VARY)


def picture_reply_to(answered: Answered, kind: PictureKind, share: BodyShare) -> PictureReply:
    """The 200 to who asked for a picture; `share` counts its bytes until they are sent."""
    return PictureReply(answered.picture, MEDIA_TYPES[kind], timing_headers(answered) | _VARY, share)


def timing_headers(answered: Answered) -> dict[str, str]:
    """``Server-Timing`` of a reply."""
    stages = [f"{name};dur={value}" for name, value in answered.timings.milliseconds().items()]
    stages.append(f'batch;desc="{answered.result.batch_size}"')
    if answered.origin:
        stages.append(f'cache;desc="{answered.origin}"')
    return {"server-timing": ", ".join(stages)}


def body_of(answered: Answered, request_id: str) -> bytes:
    """The answer as JSON. Raises ValueError if the worker's fragment is not a JSON object."""
    milliseconds = answered.timings.milliseconds()
    width, height = answered.size
    head = {"model_id": answered.model_id, "task": answered.task, "image": {"width": width, "height": height}}
    origin = answered.origin
    shown = {"cache": origin} if origin else {}
    tail = {**shown, "timings_ms": milliseconds, "request_id": request_id}
    return splice(orjson.dumps(head), answered.result.payload, orjson.dumps(tail))


def splice(*objects: bytes) -> bytes:
    """One JSON object with the members of all `objects`, without parsing them. Raises ValueError for what is not
    an object; that names do not repeat is the caller's business."""
    members = []
    for text in objects:
        stripped = text.strip()
        if stripped[:1] != b"{" or stripped[-1:] != b"}":
            raise ValueError("not a JSON object")
        if inside := stripped[1:-1].strip():
            members.append(inside)
    return b"{" + b",".join(members) + b"}"
