"""What OpenAI's clients send and read: checked, made and documented from the same declarations."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_MESSAGES = 256
MAX_PARTS = 64
MAX_STOPS = 4
MAX_IMAGES = 16
"""Large ones of a whole conversation: clients send it all again with every question."""


class _Said(BaseModel):
    """A part of a conversation. Unknown fields are skipped: clients send answers back with all that was in them."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class ChatImage(_Said):
    """Where an image is."""

    url: str = Field(
        description="Public http or https address, or the image itself as data:image/TYPE;base64,..."
    )
    detail: Any = Field(None, description="Without effect: the model sees every image in its own size.")


class ChatPart(_Said):
    """A piece of a message; of other types than these two in a user's message nothing can be made."""

    type: str = Field(description="text or image_url", examples=["text"])
    text: str | None = None
    image_url: ChatImage | None = None


class ChatMessage(_Said):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[ChatPart], Field(fail_fast=True, max_length=MAX_PARTS)] | None = None


class ChatStreamOptions(_Said):
    """How a stream looks."""

    include_usage: bool | None = None


def _ignored() -> Any:
    return Field(None, description="Accepted, without effect.")


def _refused(only: str) -> Any:
    return Field(None, description=f"Not supported: {only}.")


class ChatBody(BaseModel):
    """The JSON body of `POST /v1/chat/completions`. A null is as good as nothing."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    model: str = Field(description="GET /v1/models lists them.", examples=["shapes-vqa"])
    messages: Annotated[list[ChatMessage], Field(fail_fast=True, min_length=1, max_length=MAX_MESSAGES)] = (
        Field(
            description="The last user message's text is the question (of a caption model: the beginning), the last "
            "image of any user message what it is about. All else is skipped."
        )
    )
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Longest answer in tokens; more than the largest max_new_tokens counts as that."
    )
    max_tokens: Annotated[int, Field(ge=1)] | None = Field(None, description="The same by its old name.")
    stream: bool | None = Field(None, description="Reply with server-sent events.")
    stream_options: ChatStreamOptions | None = None

    frequency_penalty: Any = _ignored()
    function_call: Any = _ignored()
    metadata: Any = _ignored()
    parallel_tool_calls: Any = _ignored()
    prediction: Any = _ignored()
    presence_penalty: Any = _ignored()
    prompt_cache_key: Any = _ignored()
    prompt_cache_options: Any = _ignored()
    prompt_cache_retention: Any = _ignored()
    reasoning_effort: Any = _ignored()
    safety_identifier: Any = _ignored()
    seed: Any = _ignored()
    service_tier: Any = _ignored()
    store: Any = _ignored()
    temperature: Any = _ignored()
    tool_choice: Any = _ignored()
    top_logprobs: Any = _ignored()
    top_p: Any = _ignored()
    user: Any = _ignored()
    verbosity: Any = _ignored()

    audio: Any = _refused("null only")
    functions: Any = _refused("null or an empty list only")
    logit_bias: Any = _refused("null or an empty object only")
    logprobs: Any = _refused("null or false only")
    modalities: Any = _refused('null or ["text"] only')
    moderation: Any = _refused("null only")
    n: Any = _refused("null or 1 only")
    response_format: Any = _refused('null or {"type": "text"} only')
    stop: Any = _refused("null or an empty list only")
    tools: Any = _refused("null or an empty list only")
    web_search_options: Any = _refused("null only")


class _Reply(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ChatUsage(_Reply):
    """Tokens of texts; an image has none."""

    prompt_tokens: int = Field(
        description="Of the question as the model reads it, with those that begin and end a text."
    )
    completion_tokens: int = Field(
        description="Written, with the one that ends a text; not a caption's given beginning."
    )
    total_tokens: int


FinishReason = Literal["stop", "length"]


class AnswerMessage(_Reply):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class AnswerChoice(_Reply):
    """The only one."""

    index: Literal[0] = 0
    message: AnswerMessage
    logprobs: None = None
    finish_reason: FinishReason = Field(description="length: cut at the longest answer asked for.")


class ChatCompletion(_Reply):
    """The 200 without `stream`."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int = Field(description="Seconds since 1970.")
    model: str
    choices: tuple[AnswerChoice]
    usage: ChatUsage


class Delta(_Reply):
    """What is new. Only fields that were set are sent."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class DeltaChoice(_Reply):
    """The only one."""

    index: Literal[0] = 0
    delta: Delta
    logprobs: None = None
    finish_reason: FinishReason | None = None


class ChatCompletionChunk(_Reply):
    """One event of the 200 with `stream`; after the last one comes ``data: [DONE]``."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[DeltaChoice]
    usage: ChatUsage | None = Field(None, description="With stream_options.include_usage: of the last event.")


class ChatModel(_Reply):
    """One model that can be asked."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="When the server started, in seconds since 1970.")
    owned_by: Literal["model-inference-engine"] = "model-inference-engine"


class ChatModelList(_Reply):
    """The 200 of `GET /v1/models`."""

    object: Literal["list"] = "list"
    data: list[ChatModel]


class ChatErrorDetail(_Reply):
    """`code` is one of those of every other protocol."""

    message: str
    type: str
    param: str | None
    code: str


class ChatErrorBody(_Reply):
    """The body of every reply under /v1 that is no success."""

    error: ChatErrorDetail
