from __future__ import annotations

from typing import Any

import orjson
import pytest

from pool import Result
from server.chat.schemas import ChatCompletion, ChatCompletionChunk
from server.chat.wording import Wording
from server.results import Answered, Timings


def wording(text: str, task: str = "vqa", is_cut: bool = False) -> Wording:
    said = {
        "answer" if task == "vqa" else "caption": text,
        "tokens": {"prompt": 7, "written": 2},
        "is_cut": is_cut,
    }
    result = Result(orjson.dumps(said), {}, 1, 0, 0)
    return Wording.of(Answered("m", task, (1, 1), result, Timings()), "r")


def events(text: bytes) -> list[Any]:
    """JSON of all but the last, which must be the end."""
    *chunks, end, rest = text.decode().split("\n\n")
    assert (end, rest) == ("data: [DONE]", "")
    return [orjson.loads(chunk.removeprefix("data: ")) for chunk in chunks]


@pytest.mark.parametrize("task", ["vqa", "caption"])
def test_the_whole_is_as_declared(task: str) -> None:
    whole = orjson.loads(wording("a red bus", task).completion())
    assert ChatCompletion.model_validate(whole).choices[0].message.content == "a red bus"
    assert whole["choices"] == [{
        "index": 0, "message": {"role": "assistant", "content": "a red bus", "refusal": None}, "logprobs": None, "finish_reason": "stop",
    }]  # fmt: skip
    assert whole["usage"] == {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    assert (whole["id"], whole["object"]) == ("chatcmpl-r", "chat.completion")


@pytest.mark.parametrize(
    "text", ["", "two", "a red bus", "  a \n\n  data: [DONE]  ", "\u2028 ünï \U0001f600"]
)
@pytest.mark.parametrize("includes_usage", [False, True])
def test_a_stream_adds_up_to_the_text(text: str, includes_usage: bool) -> None:
    chunks = events(wording(text, is_cut=True).events(includes_usage))
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk)
        assert ("usage" in chunk) is includes_usage
    if includes_usage:
        last = chunks.pop()
        assert last["choices"] == [] and last["usage"]["total_tokens"] == 9
        assert all(chunk["usage"] is None for chunk in chunks)
    choices = [chunk["choices"][0] for chunk in chunks]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(choice["delta"].get("content", "") for choice in choices) == text
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["length"]
    assert choices[-1]["delta"] == {}
