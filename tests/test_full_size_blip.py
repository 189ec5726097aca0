"""The released sizes of BLIP with random weights in the real file formats: loaded, compared with the library, served."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from bench.weights import random_blip
from models.answers import no_progress
from models.blip import load
from tests.models.blip_library import (
    RUNTIMES,
    Library,
    Watch,
    config,
    pictures,
    replies,
    row,
    runtime_config,
)
from tests.models.networks import PlainRow
from tests.serving import RunningServer, running_server
from tests.test_end_to_end import as_raw, photo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NAMES = {
    "blip-vqa-base": "BlipForQuestionAnswering",
    "blip-image-captioning-base": "BlipForConditionalGeneration",
}
SIZE = 384
TEXTS = ["how many people are there?", "a bus", "the colour"]
QUESTIONS = [
    f"{what} {where}?" for what in ("what is", "who is") for where in ("here", "left", "up", "far", "near")
]


@pytest.fixture(scope="module")
def folders(request: pytest.FixtureRequest) -> dict[str, Path]:
    """2.3 GB, made once and kept in pytest's own cache."""
    kept = request.config.cache.mkdir("blip-weights")
    return {name: random_blip(kept, name) for name in NAMES}


class Scores:
    """Scores of the next token, of every step of the library's decoder, float32 of (rows, words)."""

    def __init__(self, decoder: Any) -> None:
        self.steps: list[Any] = []
        decoder.register_forward_hook(
            lambda module, args, output: self.steps.append(output.logits[:, -1].clone())
        )


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_gets_the_librarys_scores_and_texts(
    folders: dict[str, Path], name: str, runtime: str
) -> None:
    asked = config(folders[name], **runtime_config(runtime, folders[name].parent / "converted"))
    model = load(asked, "cpu", no_progress)
    images = pictures(SIZE)[: len(TEXTS)]
    scores = Watch(model).scores
    together = replies(model, [row(image, text, 4) for image, text in zip(images, TEXTS, strict=True)])
    library = Library(folders[name], NAMES[name])
    member = "answer" if name == "blip-vqa-base" else "caption"
    worst = 0.0
    for index, (image, text) in enumerate(zip(images, TEXTS, strict=True)):
        alone = Scores(library.network.text_decoder)
        expected = library(image, text, max_new_tokens=4)
        for ours, theirs in zip(scores, alone.steps, strict=False):
            worst = max(worst, float(np.abs(ours[index] - theirs[0].numpy()).max()))
        assert worst < 1e-3
        assert together[index][member] == expected
    assert len({each[member] for each in together}) > 1  # or the comparison says little
    print(f"{name} {runtime}: largest difference of a score {worst:.2e}")
    del model, library
    gc.collect()


def test_ten_questions_cost_about_one_look(folders: dict[str, Path]) -> None:
    model = load(
        config(folders["blip-vqa-base"], max_batch_size=8, vision_cache_bytes=1 << 28), "cpu", no_progress
    )
    image = pictures(SIZE)[0]
    looks = Watch(model).sizes

    def seconds(key: str, **asked: Any) -> float:
        started = time.process_time()  # of all threads: whoever shares the machine does not count
        replies(model, [PlainRow(image, {"max_new_tokens": 4, "image_key": key, **asked})])
        return time.process_time() - started

    ten = min(seconds(f"ten {turn}", prompts=QUESTIONS) for turn in range(2))
    one = min(seconds(f"one {turn}", prompt=QUESTIONS[0]) for turn in range(2))
    assert looks == [1] * 4
    again = min(seconds("one 0", prompt=QUESTIONS[0]) for _ in range(2))
    assert looks == [1] * 4
    print(f"one question {one:.2f} s, ten {ten:.2f} s, one with the image remembered {again:.2f} s")
    assert ten < 4 * one, "apart they cost ten times as much"
    assert again < 0.7 * one


@pytest.fixture(scope="module")
def server(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    toml = tmp_path_factory.mktemp("full") / "engine.toml"
    tables = [
        f'[models.{name}]\nweights = "{path}"\nfamily = "blip"\nreplicas = 1\n'
        for name, path in folders.items()
    ]
    toml.write_text("".join(tables))
    options = ["--config", str(toml), "--deadline", "120", "--load-timeout", "300", "--load-at-start", ""]
    with running_server(*options) as server:
        yield server


def ask(server: RunningServer, name: str, **options: Any) -> dict[str, Any]:
    url = server.url + "/inference"
    reply = as_raw(url, photo("bus.jpg"), model_id=name, max_new_tokens=4, **options)
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def test_the_server_answers_and_remembers(server: RunningServer) -> None:
    """`/inference` is asked with a client's usual patience, so the models are loaded first."""
    for name in NAMES:
        httpx.post(f"{server.url}/models/{name}/load", timeout=30).raise_for_status()
        deadline = time.monotonic() + 300
        while server.get(f"/models/{name}")["state"] != "ready":
            assert time.monotonic() < deadline, server.get(f"/models/{name}")
            time.sleep(0.2)
    for name, members, member in (
        ("blip-vqa-base", "answers", "answer"),
        ("blip-image-captioning-base", "captions", "caption"),
    ):
        several = ask(server, name, prompts=TEXTS)
        assert [each["prompt"] for each in several[members]] == TEXTS
        assert several["vision_cached"] is False
        single = ask(server, name, prompt=TEXTS[0])
        assert single["vision_cached"] is True
        assert single[member] == several[members][0][member]
        print(name, several["timings_ms"], single["timings_ms"])
    page = httpx.get(server.url + "/metrics").text
    for name in NAMES:
        for outcome in ("hit", "miss"):
            assert f'engine_vision_cache_total{{model="{name}",outcome="{outcome}"}} 1.0' in page
