"""The `openai` package, unchanged, with the real server, keys on, and the shipped model that answers questions."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from models.catalogue import CATALOGUE
from tests.server.keys import CLIENT, WRONG, line
from tests.serving import RunningServer, running_server

ROOT = Path(__file__).parents[1]
SAMPLE = (ROOT / "models" / "demo" / "samples" / "sample.jpg").read_bytes()
DATA_URL = f"data:image/jpeg;base64,{base64.b64encode(SAMPLE).decode()}"
MODEL, QUESTION = "shapes-vqa", "how many shapes are there?"
SLOW = CLIENT.replace("client", "slowly")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    keys = tmp_path_factory.mktemp("keys") / "keys.toml"
    keys.write_text(line("alice", CLIENT) + line("slow", SLOW, "rate_limit = 1"))
    environment = {
        "ENGINE_LOAD_AT_START": MODEL, "ENGINE_ON_DEMAND": "off", "ENGINE_KEYS_FILE": str(keys), "ENGINE_RATE_LIMIT_BURST": "1",
    }  # fmt: skip
    with running_server(environment=environment) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key=CLIENT, max_retries=0) as client:
        yield client


def about(address: str, text: str | None = QUESTION) -> Any:
    """One message of a user."""
    image = {"type": "image_url", "image_url": {"url": address, "detail": "low"}}
    return [{"role": "user", "content": [{"type": "text", "text": text}, image] if text else [image]}]


def inference(server: RunningServer, **fields: Any) -> Any:
    body = {"model_id": MODEL, "image_base64": base64.b64encode(SAMPLE).decode(), **fields}
    headers = {"authorization": f"Bearer {CLIENT}"}
    reply = httpx.post(
        f"{server.url}/inference", json=body, headers=headers, timeout=60, trust_env=False, verify=False
    )
    assert reply.status_code == 200, reply.text
    return reply.json()


@pytest.mark.parametrize("question", [QUESTION, "is there a circle in the picture?", None])
def test_an_answer_is_that_of_inference(server: RunningServer, client: OpenAI, question: str | None) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=about(DATA_URL, question))
    expected = inference(server, prompt=question)
    assert completion.choices[0].message.content == expected["answer"] != ""
    assert (completion.choices[0].finish_reason, completion.model) == ("stop", MODEL)
    tokens = expected["tokens"]
    if question == QUESTION:  # the README's
        assert tokens == {"prompt": 8, "written": 2}
    assert completion.usage is not None
    assert completion.usage.model_dump(exclude_unset=True) == {
        "prompt_tokens": tokens["prompt"], "completion_tokens": tokens["written"],
        "total_tokens": tokens["prompt"] + tokens["written"],
    }  # fmt: skip
    assert abs(completion.created - time.time()) < 60 and completion.id.startswith("chatcmpl-")


def test_a_longest_answer_is_kept_to_and_said(server: RunningServer, client: OpenAI) -> None:
    messages = about(DATA_URL, "what is in the picture?")
    cut = client.chat.completions.create(model=MODEL, messages=messages, max_completion_tokens=1)
    assert cut.choices[0].finish_reason == "length" and cut.usage is not None
    assert cut.usage.completion_tokens == 1
    expected = inference(server, prompt="what is in the picture?", parameters={"max_new_tokens": 100})
    long = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=4096)
    assert long.choices[0].message.content == expected["answer"] != cut.choices[0].message.content


def test_a_stream_is_the_answer_in_words(client: OpenAI) -> None:
    messages = about(DATA_URL, "what is in the picture?")
    whole = client.chat.completions.create(model=MODEL, messages=messages)
    options: Any = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(model=MODEL, messages=messages, stream=True, stream_options=options)
    )
    *said, last = chunks
    deltas = [chunk.choices[0].delta for chunk in said]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    assert len(deltas) > 3, "role, words, end"
    reasons = [chunk.choices[0].finish_reason for chunk in said]
    assert reasons == [None] * (len(said) - 1) + ["stop"]
    assert (last.choices, last.usage) == ([], whole.usage)
    assert all(chunk.usage is None for chunk in said) and len({chunk.id for chunk in chunks}) == 1
    plain = list(client.chat.completions.create(model=MODEL, messages=messages, stream=True))
    assert len(plain) == len(said) and "usage" not in plain[0].model_fields_set


async def test_the_asynchronous_client_asks_and_streams(server: RunningServer) -> None:
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key=CLIENT, max_retries=0) as client:
        whole = await client.chat.completions.create(model=MODEL, messages=about(DATA_URL))
        async with client.chat.completions.stream(model=MODEL, messages=about(DATA_URL)) as stream:
            final = await stream.get_final_completion()
        assert final.choices[0].message.content == whole.choices[0].message.content == "5"
        assert MODEL in [model.id async for model in client.models.list()]


def test_models_that_answer_in_words_are_listed(client: OpenAI) -> None:
    listed = client.models.list().data
    expected = {name for name, entry in CATALOGUE.items() if entry.task in ("vqa", "caption")}
    assert {model.id for model in listed} == expected > {MODEL}
    assert all(model.owned_by and 0 <= time.time() - model.created < 300 for model in listed)
    assert client.models.retrieve(MODEL) in listed


def failure(ask: Any, kind: type[openai.APIStatusError]) -> tuple[str | None, str | None]:
    """Code and parameter; the message must be ours."""
    with pytest.raises(openai.APIStatusError) as raised:
        ask()
    assert type(raised.value) is kind
    body = raised.value.body
    assert isinstance(body, dict) and body["message"].endswith(".") and body["message"] in str(raised.value)
    return raised.value.code, raised.value.param


def test_errors_are_those_of_the_client(server: RunningServer, client: OpenAI) -> None:
    def ask(model: str = MODEL, messages: Any = None, **options: Any) -> Any:
        return lambda: client.chat.completions.create(
            model=model, messages=messages or about(DATA_URL), **options
        )

    assert failure(ask("gpt-5"), openai.NotFoundError) == ("model_not_found", None)
    assert failure(lambda: client.models.retrieve("gpt-5"), openai.NotFoundError)[0] == "model_not_found"
    assert failure(lambda: client.models.retrieve("yolov8n"), openai.BadRequestError)[0] == "not_a_chat_model"
    assert failure(ask("yolov8n"), openai.BadRequestError) == ("not_a_chat_model", None)
    assert failure(ask(n=2), openai.BadRequestError) == ("not_supported", "n")
    text = [{"role": "user", "content": "hello"}]
    assert failure(ask(messages=text), openai.BadRequestError)[0] == "image_required"
    damaged = about("data:image/png;base64,AAAA")
    assert failure(ask(messages=damaged), openai.UnprocessableEntityError)[0] == "image_undecodable"
    assert failure(ask("blip-vqa-base"), openai.InternalServerError)[0] == "model_unavailable"
    stranger = client.with_options(api_key=WRONG)
    assert failure(lambda: stranger.models.list(), openai.AuthenticationError)[0] == "unauthorized"


def test_the_client_waits_as_long_as_it_is_told(client: OpenAI) -> None:
    slow = client.with_options(api_key=SLOW)
    slow.models.list()
    assert failure(lambda: slow.models.list(), openai.RateLimitError)[0] == "rate_limited"
    started = time.monotonic()
    assert slow.with_options(max_retries=2).models.list().data
    assert time.monotonic() - started > 0.9, "Retry-After, not the client's own half a second"


def test_the_readmes_example_runs(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)
    (example,) = [block for block in blocks if "from openai import" in block]
    assert "http://127.0.0.1:5000" in example and 'api_key="none"' in example
    example = example.replace("http://127.0.0.1:5000", server.url).replace('"none"', repr(CLIENT))
    monkeypatch.chdir(ROOT)
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out.split() == ["5", "yes"]
