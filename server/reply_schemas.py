"""What replies look like: declared once, for the description and for whoever reads them in Python. Imports pydantic
only. The server itself splices a worker's JSON into its reply and never builds these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

TaskName = Literal["classify", "detect", "obb", "pose", "segment", "vqa", "caption"]
Place = Annotated[tuple[float, float], Field(description="x and y in pixels of the upright original.")]


class Reply(BaseModel):
    """Unknown fields are skipped: a newer server may say more."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ImageSize(Reply):
    """Pixels of the upright original."""

    width: int
    height: int


class Box(Reply):
    """Corners in pixels of the upright original."""

    x1: float
    y1: float
    x2: float
    y2: float


class Keypoint(Reply):
    """A place in pixels; `confidence` where the network gives one."""

    x: float
    y: float
    confidence: float | None = None


class RunLengths(Reply):
    """COCO's compressed run lengths; `size` is height and width."""

    size: tuple[int, int]
    counts: str


class ClassScore(Reply):
    """A class and how likely it is, from 0 to 1."""

    label: str
    class_id: int
    confidence: float


class Prediction(ClassScore):
    """One found object. What other tasks than its own add is None."""

    box: Box
    polygon: Sequence[Place] | None = Field(None, description="Of segment: the outline.")
    mask: RunLengths | None = Field(None, description="Of segment with masks=rle.")
    keypoints: Sequence[Keypoint] | None = Field(None, description="Of pose, in the order of the network.")
    corners: Sequence[Place] | None = Field(None, description="Of obb: four of them.")
    angle: float | None = Field(
        None, description="Of obb: radians, of the side from the fourth corner to the first."
    )


class Answer(Reply):
    """Of vqa: one question's."""

    prompt: str
    answer: str


class Caption(Reply):
    """Of caption: with the prompt as its beginning."""

    prompt: str
    caption: str


class TokenCounts(Reply):
    """Of texts; a picture has none. Of several prompts the sum."""

    prompt: int = Field(description="Read, with those that begin and end a text.")
    written: int = Field(description="Made, with the one that ends a text; not the beginning of a caption.")


class InferenceReply(Reply):
    """The 200 of `POST /inference`. What other tasks than its own say is None."""

    model_id: str
    task: TaskName
    image: ImageSize
    predictions: Sequence[Prediction] | None = Field(
        None, description="Of detect, segment, pose and obb, best first: in pixels of the upright original."
    )
    top: Sequence[ClassScore] | None = Field(
        None, description="Of classify: the likeliest classes, best first."
    )
    answer: str | None = Field(None, description="Of vqa.")
    caption: str | None = Field(None, description="Of caption: with the prompt as its beginning.")
    prompt: str | None = Field(
        None, description="Of vqa: the question. Of caption: the prompt, if there was one."
    )
    answers: Sequence[Answer] | None = Field(None, description="Of vqa with prompts: one for each, in order.")
    captions: Sequence[Caption] | None = Field(
        None, description="Of caption with prompts: one for each, in order."
    )
    tokens: TokenCounts | None = Field(None, description="Of vqa and caption.")
    is_cut: bool | None = Field(
        None, description="Of vqa and caption: a text ends because it has max_new_tokens."
    )
    vision_cached: bool | None = Field(
        None,
        description="Of vqa and caption: the image was encoded already, for another request. With cache shared or "
        "hit: for the run that made this answer.",
    )
    cache: Literal["miss", "shared", "hit"] | None = Field(
        None,
        description="Only with deduplicate or response_cache_bytes: run for this request (miss), taken from the run of "
        "an equal one in flight (shared) or from an earlier one (hit).",
    )
    timings_ms: Mapping[str, float] = Field(
        description="This request's own milliseconds. With cache shared, queue is the wait for the other's run; with "
        "shared or hit, decode, infer and post are 0."
    )
    request_id: str


class ErrorDetail(Reply):
    """What went wrong: `code` for programs, `message` for people."""

    code: str
    message: str
    request_id: str


class ErrorBody(Reply):
    """The body of every reply that is no success."""

    error: ErrorDetail


class ListReply(Reply):
    """The 200 of `POST /inference/batch`: for each image, in order, its answer or why there is none."""

    results: Sequence[InferenceReply | ErrorBody]
    request_id: str
