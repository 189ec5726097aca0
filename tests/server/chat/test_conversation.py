from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from server.chat.conversation import parse_chat, to_request
from server.chat.schemas import MAX_IMAGES, MAX_MESSAGES, MAX_PARTS, ChatBody
from server.errors import RequestFailedError
from server.intake import InferenceRequest
from server.schemas import MAX_JSON_BESIDE

DATA_URL = "data:image/png;base64,AAAA"
IMAGE = {"type": "image_url", "image_url": {"url": DATA_URL, "detail": "high"}}
TEXT = {"type": "text", "text": "how many?"}


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def request_of(*messages: Any, **fields: Any) -> InferenceRequest:
    return to_request(parse_chat(orjson.dumps({"model": "m", "messages": messages, **fields})))


def refusal(*messages: Any, **fields: Any) -> tuple[str, str]:
    with pytest.raises(RequestFailedError) as raised:
        request_of(*(messages or (user(TEXT, IMAGE),)), **fields)
    return raised.value.code, raised.value.subject


def test_a_question_about_an_image() -> None:
    asked = request_of(user(TEXT, IMAGE))
    assert asked == InferenceRequest("m", "how many?", {}, is_text=False, encoded=DATA_URL)
    there = {"type": "image_url", "image_url": {"url": "https://images.example/a.png"}}
    assert request_of(user(there)) == InferenceRequest(
        "m", "", {}, is_text=False, image_url="https://images.example/a.png"
    )


def test_texts_of_the_last_user_message_are_joined_in_order() -> None:
    parts = [{"type": "text", "text": text} for text in ("is", "", "it", "red?")]
    assert request_of(user(parts[0], IMAGE, *parts[1:])).prompt == "is\nit\nred?"


def test_what_a_model_cannot_follow_is_skipped() -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    asked = request_of(
        {"role": "system", "content": "You are a pirate."},
        {"role": "developer", "content": [{"type": "text", "text": "Be short."}]},
        user({"type": "text", "text": "first"}, IMAGE),
        {"role": "assistant", "content": "5", "refusal": None, "annotations": [], "audio": {"id": "x"}},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "content": "a result", "tool_call_id": "1"},
        {"role": "user", "content": "and how many are red?", "name": "alice"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
    )
    assert (asked.prompt, asked.encoded) == ("and how many are red?", DATA_URL)


def test_the_last_image_is_the_one_that_is_meant() -> None:
    other = {"type": "image_url", "image_url": {"url": "https://images.example/b.png"}}
    assert request_of(user(IMAGE), user(TEXT, other), user(TEXT)).image_url == "https://images.example/b.png"
    assert request_of(user(other, other), user(TEXT, IMAGE)).encoded == DATA_URL


@pytest.mark.parametrize(("messages", "code", "subject"), [
    ([user(TEXT)], "image_required", ""), ([{"role": "user", "content": "hello"}], "image_required", ""),
    ([{"role": "user", "content": None}], "image_required", ""), ([user()], "image_required", ""),
    ([{"role": "assistant", "content": [IMAGE]}, user(TEXT)], "image_required", ""),
    ([user(IMAGE, TEXT, IMAGE)], "several_images", ""), ([{"role": "system", "content": [IMAGE]}], "invalid_parameter", "messages"),
    ([user({"type": "input_audio", "input_audio": {}}, IMAGE)], "not_supported", "messages"),
    ([user({"type": "file", "file": {}}, IMAGE)], "not_supported", "messages"), ([user({"type": "image_url"})], "invalid_parameter", "messages"),
    ([user({"type": "image_url", "image_url": {"url": "data:text/html;base64,AAAA"}})], "invalid_image_url", ""),
    ([user({"type": "image_url", "image_url": {"url": "DATA:,x"}})], "invalid_image_url", ""),
    *(([message], "invalid_parameter", "messages") for message in (
        1, None, [], "hello", {}, {"role": "user", "content": 1}, {"role": "pirate", "content": "x"}, {"content": "x"}, {"role": None},
        user(1), user("x"), user({}), user({"type": 1}), user({"type": "text", "text": 1}), user({"type": "text", "text": ["x"]}),
        user({"type": "image_url", "image_url": DATA_URL}), user({"type": "image_url", "image_url": {"url": 1}}),
        user({"type": "image_url", "image_url": {}}), user(*[TEXT] * (MAX_PARTS + 1)), {"role": "user", "content": {"type": "text"}},
    )),
])  # fmt: skip
def test_a_conversation_that_asks_nothing_is_refused(messages: Any, code: str, subject: str) -> None:
    assert refusal(*messages) == (code, subject)


@pytest.mark.parametrize(("name", "nothing", "something"), [
    ("n", [None, 1], [0, 2, "1", [1]]), ("tools", [None, []], [[{}], {"a": 1}, "x"]), ("functions", [None, []], [[{}]]),
    ("response_format", [None, {"type": "text"}], [{"type": "json_object"}, {"type": "json_schema", "json_schema": {}}, "json", {}]),
    ("logprobs", [None, False], [True, "yes"]), ("logit_bias", [None, {}], [{"50256": -100}]), ("stop", [None, []], ["x", ["x"], ""]),
    ("audio", [None], [{}, {"voice": "x"}]), ("modalities", [None, ["text"]], [["audio"], ["text", "audio"], []]),
    ("moderation", [None], [{"model": "x"}]), ("web_search_options", [None], [{}]),
])  # fmt: skip
def test_what_would_change_the_answer_is_refused_by_name(
    name: str, nothing: list[Any], something: list[Any]
) -> None:
    for value in nothing:
        assert request_of(user(TEXT, IMAGE), **{name: value}).prompt == "how many?"
    for value in something:
        assert refusal(**{name: value}) == ("not_supported", name), value


def test_what_has_no_meaning_here_is_taken() -> None:
    meaningless = {
        "temperature": 0.7, "top_p": 1, "seed": 42, "user": "alice", "presence_penalty": 2, "frequency_penalty": -2, "store": False,
        "metadata": {"a": "b"}, "service_tier": "auto", "reasoning_effort": "none", "verbosity": "low", "tool_choice": "auto",
        "parallel_tool_calls": True, "top_logprobs": 5, "safety_identifier": "x", "prompt_cache_key": "x", "prediction": None,
        "function_call": "none", "prompt_cache_retention": "24h", "prompt_cache_options": {},
    }  # fmt: skip
    assert request_of(user(TEXT, IMAGE), **meaningless) == request_of(user(TEXT, IMAGE))
    assert refusal(temprature=1) == ("unknown_field", "temprature")


def test_every_field_that_the_client_knows_is_known() -> None:
    from openai.types.chat.completion_create_params import (
        CompletionCreateParamsNonStreaming,
        CompletionCreateParamsStreaming,
    )

    known = (
        CompletionCreateParamsNonStreaming.__annotations__.keys()
        | CompletionCreateParamsStreaming.__annotations__
    )
    assert known == set(ChatBody.model_fields)


@pytest.mark.parametrize(("fields", "longest"), [
    ({}, None), ({"max_tokens": None}, None), ({"max_tokens": 5}, 5), ({"max_completion_tokens": 7, "max_tokens": 5}, 7),
    ({"max_tokens": 4096}, 100), ({"max_tokens": 2**40}, 100),
])  # fmt: skip
def test_the_longest_answer_is_kept_within_the_models_bounds(
    fields: dict[str, Any], longest: int | None
) -> None:
    expected = {} if longest is None else {"max_new_tokens": longest}
    assert request_of(user(TEXT, IMAGE), **fields).parameters == expected


@pytest.mark.parametrize(("name", "values"), [
    ("max_tokens", [0, -1, 1.5, "5", True, []]), ("max_completion_tokens", [0, "5"]), ("stream", [1, "true"]), ("model", [None, 1]),
    ("stream_options", [1, {"include_usage": "yes"}]), ("messages", [None, {}, "x", []]),
])  # fmt: skip
def test_a_wrong_value_is_named(name: str, values: list[Any]) -> None:
    for value in values:
        body = {"model": "m", "messages": [user(TEXT, IMAGE)], name: value}
        with pytest.raises(RequestFailedError) as raised:
            parse_chat(orjson.dumps(body))
        assert (raised.value.code, raised.value.subject) == ("invalid_parameter", name), value


def test_a_conversation_may_hold_all_its_large_images_but_no_more_than_its_messages() -> None:
    """Clients send the whole of it again with every question."""
    large = base64.b64encode(bytes(MAX_JSON_BESIDE)).decode()
    turn = user(TEXT, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{large}"}})
    assert request_of(*[turn] * MAX_IMAGES).encoded is not None
    assert refusal(*[turn] * (MAX_IMAGES + 1)) == ("invalid_request", "")
    small = user(TEXT, IMAGE)
    assert request_of(*[small] * MAX_MESSAGES).prompt == "how many?"
    assert refusal(*[small] * (MAX_MESSAGES + 1)) == ("invalid_parameter", "messages")
