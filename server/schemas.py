"""What a request may say, and what replies look like: the declarations that are checked and documented alike."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from models.spec import Spec, Task
from server.errors import RequestFailedError

MAX_PROMPT_CHARS = 1000
MAX_PROMPTS = 32
MAX_CLASSES = 1000
MAX_NEW_TOKENS = 100
MAX_JSON_BESIDE = 448 * 1024
"""Bytes of a JSON body beside its image: every field at its longest, each sign of a prompt as two escapes."""
MAX_JSON_COMMAS = MAX_PROMPTS * MAX_PROMPT_CHARS + MAX_CLASSES + 3000
"""Those in texts too: more than any body has that is accepted."""


Body = TypeVar("Body", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class InferenceBody(_Strict):
    """The JSON body of `POST /inference`."""

    model_id: str = Field(
        description="Name of the model; GET /models lists them.", examples=["shapes-detect"]
    )
    prompt: str | None = Field(
        None,
        description="The question, or the beginning of the caption. Not together with prompts.",
        json_schema_extra={"maxLength": MAX_PROMPT_CHARS},
    )
    prompts: Annotated[list[str], Field(fail_fast=True, min_length=1, max_length=MAX_PROMPTS)] | None = Field(
        None,
        description="Several of them about the one image, answered in this order; times num_beams at most 32.",
    )
    image_url: str | None = Field(
        None,
        description="Public http or https address of the image, of at most 2048 characters; or the image itself as "
        "data:image/TYPE;base64,... with TYPE jpeg, jpg, png, webp, bmp or gif.",
    )
    image_base64: str | None = Field(None, description="The image itself, JPEG, PNG, WebP, BMP or GIF.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="Options of the model's task.")


class ListedImage(_Strict):
    """One of several images. What it says replaces what the request says for all; a prompt of its own, both prompt and
    prompts."""

    image_url: str | None = Field(None, description="As in `POST /inference`.")
    image_base64: str | None = Field(None, description="As in `POST /inference`.")
    model_id: str | None = Field(None, description="Instead of the request's.")
    prompt: str | None = Field(
        None, description="Instead of the request's.", json_schema_extra={"maxLength": MAX_PROMPT_CHARS}
    )
    prompts: Annotated[list[str], Field(fail_fast=True, min_length=1, max_length=MAX_PROMPTS)] | None = Field(
        None, description="Instead of the request's."
    )
    parameters: dict[str, Any] | None = Field(None, description="Instead of the request's.")


class ListBody(_Strict):
    """The JSON body of `POST /inference/batch`."""

    model_id: str | None = Field(
        None, description="Name of the model, for images that name none.", examples=["shapes-detect"]
    )
    prompt: str | None = Field(
        None, description="For images that bring none.", json_schema_extra={"maxLength": MAX_PROMPT_CHARS}
    )
    prompts: Annotated[list[str], Field(fail_fast=True, min_length=1, max_length=MAX_PROMPTS)] | None = Field(
        None, description="Several, for images that bring none."
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="Options of the model's task, for images that bring none."
    )
    images: list[Any] = Field(
        min_length=1,
        json_schema_extra={"items": {"$ref": "#/components/schemas/ListedImage"}},
        description="What is wrong with one of them is said in its place among the results.",
    )


class DetectParameters(_Strict):
    """Options of detect, pose and obb."""

    confidence: Annotated[float, Field(ge=0, le=1, description="Least confidence of a prediction.")] = 0.25
    iou: Annotated[float, Field(ge=0, le=1, description="Overlap above which two boxes count as one.")] = 0.7
    max_detections: Annotated[int, Field(ge=1, le=1000, description="Most predictions of one image.")] = 300
    classes: (
        Annotated[
            list[Annotated[int, Field(ge=0, le=100_000)]],
            Field(
                fail_fast=True,
                min_length=1,
                max_length=MAX_CLASSES,
                description="Class ids to keep; all without it.",
            ),
        ]
        | None
    ) = None


class SegmentParameters(DetectParameters):
    """Options of segment."""

    masks: Annotated[
        Literal["polygon", "rle"],
        Field(
            description="Masks as outlines, or as COCO run lengths with one bit per pixel of the original."
        ),
    ] = "polygon"


class ClassifyParameters(_Strict):
    """Options of classify."""

    top: Annotated[int, Field(ge=1, le=1000, description="How many of the likeliest classes.")] = 5


class TextParameters(_Strict):
    """Options of vqa and caption."""

    max_new_tokens: Annotated[
        int, Field(ge=1, le=MAX_NEW_TOKENS, description="Longest answer in tokens.")
    ] = 20
    num_beams: Annotated[int, Field(ge=1, le=5, description="Beams of the search; 1 is greedy.")] = 1


Parameters = DetectParameters | ClassifyParameters | TextParameters

PARAMETERS: Mapping[Task, type[Parameters]] = {
    "detect": DetectParameters,
    "segment": SegmentParameters,
    "pose": DetectParameters,
    "obb": DetectParameters,
    "classify": ClassifyParameters,
    "vqa": TextParameters,
    "caption": TextParameters,
}
PARAMETER_NAMES = frozenset(name for kind in PARAMETERS.values() for name in kind.model_fields)


def parse_json(body: bytes) -> InferenceBody:
    """Read a JSON body. Raises RequestFailedError."""
    return parse_fields(_object(body, 1))


def parse_list(body: bytes, max_images: int) -> ListBody:
    """Read the JSON body of a list. Its images are not looked at yet. Raises RequestFailedError."""
    parsed = parse_body(body, ListBody, max_images)
    if len(parsed.images) > max_images:
        raise RequestFailedError("invalid_parameter", "images")
    return parsed


def parse_listed(whole: ListBody, image: object) -> InferenceBody:
    """What is asked of one image of a list, whatever the JSON `image` is. Raises RequestFailedError."""
    if not isinstance(image, dict):
        raise RequestFailedError("invalid_request")
    own = _validated(ListedImage, image).model_dump(exclude_none=True)
    shared = whole.model_dump(exclude_none=True, exclude={"images"})
    if own.keys() & {"prompt", "prompts"}:
        shared = {name: value for name, value in shared.items() if name not in ("prompt", "prompts")}
    return parse_fields({**shared, **own})


def parse_body(body: bytes, kind: type[Body], max_images: int = 1) -> Body:
    """A JSON body as `kind`, which is to stop at the first wrong item of a list; beside its images, of which there may
    be `max_images`, it may be MAX_JSON_BESIDE bytes long. Raises RequestFailedError."""
    return _validated(kind, _object(body, max_images))


def _object(body: bytes, max_images: int) -> dict[str, Any]:
    if len(body) > MAX_JSON_BESIDE and _is_crowded(body, max_images):
        raise RequestFailedError("invalid_request")
    try:
        # jiter: measured 8 times as fast as orjson on the megabytes of one base64 string, on the loop's time
        fields = from_json(body, allow_inf_nan=False, cache_strings="keys")
    except ValueError:
        raise RequestFailedError("invalid_json") from None
    if not isinstance(fields, dict):
        raise RequestFailedError("invalid_request")
    return fields


def parse_fields(fields: Mapping[str, Any]) -> InferenceBody:
    """The JSON object of one image. Raises RequestFailedError."""
    parsed = _validated(InferenceBody, fields)
    if (parsed.image_url is None) == (parsed.image_base64 is None):
        raise RequestFailedError("exactly_one_image_source")
    return parsed


def _validated(kind: type[Body], fields: Mapping[str, Any]) -> Body:
    _refuse_unknown(fields, kind.model_fields)
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise _wrong_value(error) from None


def parse_parameters(task: Task, fields: Mapping[str, Any], *, is_text: bool) -> Parameters:
    """Check options against the model's task; `is_text` says that all values are strings (a query or a form).

    Raises RequestFailedError ``invalid_parameter`` or ``unknown_field``.
    """
    kind = PARAMETERS[task]
    prefix = "" if is_text else "parameters."
    for name in fields:
        if name not in kind.model_fields:
            code = "invalid_parameter" if name in PARAMETER_NAMES else "unknown_field"
            raise RequestFailedError(code, prefix + name)
    try:
        return kind.model_validate(_split_lists(fields) if is_text else fields, strict=not is_text)
    except ValidationError as error:
        raise _wrong_value(error, prefix) from None


def check_prompts(task: Task, prompt: str | None, prompts: Sequence[str] | None) -> None:
    """One text, several or none, for vqa (without it the model is asked what is in the picture) and caption only.
    Raises RequestFailedError."""
    if prompt is not None:
        _check_texts("prompt", task, [prompt])
    if prompts is not None:
        if prompt is not None or not 1 <= len(prompts) <= MAX_PROMPTS:
            raise RequestFailedError("invalid_parameter", "prompts")
        _check_texts("prompts", task, prompts)


def _check_texts(name: str, task: Task, texts: Sequence[str]) -> None:
    is_fine = all(len(text) <= MAX_PROMPT_CHARS and "\x00" not in text for text in texts)
    if task not in ("vqa", "caption") or not is_fine:
        raise RequestFailedError("invalid_parameter", name)


def check_work(parameters: Parameters, prompts: Sequence[str] | None) -> None:
    """Prompts times beams are at most MAX_PROMPTS, so that one entry is no more work than a batch and is done before
    its worker is taken for hung. Raises RequestFailedError."""
    if isinstance(parameters, TextParameters) and len(prompts or ()) * parameters.num_beams > MAX_PROMPTS:
        raise RequestFailedError("invalid_parameter", "prompts")


def check_classes(parameters: Parameters, spec: Spec) -> None:
    """Class ids must be the model's. Raises RequestFailedError."""
    if (
        isinstance(parameters, DetectParameters)
        and parameters.classes
        and max(parameters.classes) >= len(spec.labels)
    ):
        raise RequestFailedError("invalid_parameter", "classes")


def _split_lists(fields: Mapping[str, str]) -> dict[str, Any]:
    return {name: text.split(",") if name == "classes" else text for name, text in fields.items()}


def _is_crowded(body: bytes, max_images: int) -> bool:
    """Whether it says more than is allowed beside the longest pieces between commas, and base64 has none.
    Before any of it becomes an object: 28 MB of empty lists held the loop for 4 s and 600 MB of memory."""
    longest, begin = [0] * max_images, 0
    for _ in range(MAX_JSON_COMMAS):
        end = body.find(b",", begin)
        if end < 0:
            heapq.heappushpop(longest, len(body) - begin)
            return len(body) - sum(longest) > MAX_JSON_BESIDE
        heapq.heappushpop(longest, end - begin)
        begin = end + 1
    return True


def _refuse_unknown(fields: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Before pydantic, which would describe each of a million unknown fields."""
    for name in fields:
        if name not in known:
            raise RequestFailedError("unknown_field", name)


def _wrong_value(error: ValidationError, prefix: str = "") -> RequestFailedError:
    location = error.errors(include_url=False, include_context=False, include_input=False)[0]["loc"]
    return RequestFailedError("invalid_parameter", prefix + (str(location[0]) if location else ""))
