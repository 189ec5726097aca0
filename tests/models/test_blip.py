from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from models.answers import no_progress
from models.blip import BlipModel, load
from models.errors import InvalidParameterError
from models.spec import Spec
from models.weights import sha256_of
from models.writers import DEFAULT_PROMPT
from tests.models.blip_folder import IMAGE_SIZE, MAX_TOKENS, save_blip
from tests.models.blip_library import (
    RUNTIMES,
    Library,
    Watch,
    answers,
    config,
    pictures,
    replies,
    row,
    runtime_config,
)

PROMPTS = (
    "how many cats are there?",
    "dog",
    "what is the colour of the small car on the left of the big red bus in the street?",
    "is there a man or a woman",
)
BEAMS = [1, 3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_blip(tmp_path_factory.mktemp("blip") / "tiny")


@pytest.fixture(scope="module", params=RUNTIMES)
def runtime(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return runtime_config(request.param, tmp_path_factory.getbasetemp() / "converted")


@pytest.fixture(scope="module")
def model(folder: Path, runtime: dict[str, Any]) -> BlipModel:
    return load(config(folder, **runtime), "cpu", no_progress)


@pytest.fixture(scope="module")
def library(folder: Path) -> Library:
    return Library(folder)


@pytest.mark.parametrize("num_beams", BEAMS)
def test_answers_are_the_librarys_whoever_shares_the_batch(
    model: BlipModel, library: Library, num_beams: int
) -> None:
    images, said = pictures(), set()
    for shift in range(4):
        pairs = [(images[index], PROMPTS[(index + shift) % 4]) for index in range(4)]
        together = answers(model, [row(image, prompt, num_beams=num_beams) for image, prompt in pairs])
        for (image, prompt), found in zip(pairs, together, strict=True):
            expected = library(image, prompt, max_new_tokens=8, num_beams=num_beams)
            assert found == {"answer": expected, "prompt": prompt}
            assert answers(model, [row(image, prompt, num_beams=num_beams)]) == [found]
            said.add(expected)
    assert len(said) >= 8  # or the comparison says nothing


def test_the_libraries_own_batches_do_depend_on_their_mates(library: Library) -> None:
    """Why this adapter puts the network together itself; when this fails, the library may be used as it is."""
    images, prompts = pictures(), list(PROMPTS)
    inputs = library.processor(images=images, text=prompts, padding=True, return_tensors="pt")
    tokens = library.network.generate(**inputs, do_sample=False, max_new_tokens=8)
    together = library.processor.batch_decode(tokens, skip_special_tokens=True)
    alone = [library(image, prompt, max_new_tokens=8) for image, prompt in zip(images, prompts, strict=True)]
    assert together != alone


def test_answers_are_as_long_as_asked(model: BlipModel, library: Library) -> None:
    image = pictures()[0]
    for max_new_tokens in (1, 3, 12):
        expected = library(image, "dog", max_new_tokens=max_new_tokens)
        assert answers(model, [row(image, "dog", max_new_tokens)])[0]["answer"] == expected


@pytest.mark.parametrize("prompt", [None, "", "  \n"])
def test_without_a_prompt_a_fixed_question_is_asked(model: BlipModel, prompt: str | None) -> None:
    image = pictures()[0]
    found = answers(model, [row(image, prompt)])
    assert found == answers(model, [row(image, DEFAULT_PROMPT)])
    assert found[0]["prompt"] == "what is in the picture?"


def test_a_prompt_that_does_not_fit_fails_its_row_alone(model: BlipModel) -> None:
    image = pictures()[0]
    fits = " ".join(["cat"] * (MAX_TOKENS - 2))
    good = row(image, fits)
    answered = model.infer([row(image, fits + " cat"), good, row(image, "cat " * 10_000)])
    assert isinstance(answered.fragments[0], InvalidParameterError)
    assert isinstance(answered.fragments[2], InvalidParameterError)
    assert answered.fragments[1] == model.infer([good]).fragments[0]


def test_impossible_parameters_fail_their_row_alone(model: BlipModel) -> None:
    image = pictures()[0]
    answered = model.infer([row(image, "dog"), row(image, "dog", num_beams="many")])
    assert isinstance(answered.fragments[0], bytes)
    assert isinstance(answered.fragments[1], InvalidParameterError)


def test_rows_with_different_batch_keys_are_refused(model: BlipModel) -> None:
    image = pictures()[0]
    with pytest.raises(ValueError, match="agree"):
        model.infer([row(image, "dog", 3), row(image, "dog", 4)])


def test_any_text_is_a_question(model: BlipModel) -> None:
    for prompt in ("[SEP] [PAD] [MASK]", "\x00\ufffd\u202e", "\U0001f600" * 20, "CAFÉ ñ 猫", "dog" * 200):
        found = answers(model, [row(pictures()[0], prompt)])[0]
        assert found["prompt"] == prompt


def test_the_spec_comes_from_the_folder(model: BlipModel, folder: Path) -> None:
    spec = Spec.from_json(orjson.loads(orjson.dumps(model.spec)))
    assert model.slot_shape == spec.slot_shape == (IMAGE_SIZE, IMAGE_SIZE, 3)
    assert (spec.family, spec.task, spec.resize, spec.labels) == ("blip", "vqa", "square_bicubic", ())
    assert (spec.device, spec.precision) == ("cpu", "fp32")
    assert spec.weights_sha256 == sha256_of(folder / "model.safetensors")


def test_stages_are_timed_and_reported(model: BlipModel, folder: Path, runtime: dict[str, Any]) -> None:
    timings = model.infer([row(pictures()[0], "dog")]).timings
    assert set(timings) == {"infer", "post"}
    stages: list[str] = []
    load(config(folder, max_batch_size=1, **runtime), "cpu", lambda step: stages.append(step["stage"]))
    assert stages == ["load", "warm_up"]


def test_a_list_of_questions_gets_the_answers_that_each_gets_alone(model: BlipModel) -> None:
    """More of them than a batch has rows, and beside another row with a question of its own."""
    image, other = pictures()[:2]
    prompts = [*PROMPTS, "", *reversed(PROMPTS)]
    expected = [answers(model, [row(image, prompt)])[0] for prompt in prompts]
    assert len({each["answer"] for each in expected}) > 2
    assert answers(model, [row(image, prompts=prompts)]) == [{"answers": expected}]
    beside = answers(model, [row(other, "dog"), row(image, prompts=prompts), row(other, prompts=["dog"])])
    dog = answers(model, [row(other, "dog")])[0]
    assert beside == [dog, {"answers": expected}, {"answers": [dog]}]


def test_one_question_that_does_not_fit_fails_the_row_with_its_list(model: BlipModel) -> None:
    image = pictures()[0]
    answered = model.infer([row(image, prompts=["dog", "cat " * 100]), row(image, "dog")])
    assert isinstance(answered.fragments[0], InvalidParameterError)
    assert isinstance(answered.fragments[1], bytes)


@pytest.fixture
def remembering(folder: Path, runtime: dict[str, Any]) -> BlipModel:
    return load(config(folder, vision_cache_bytes=1 << 20, **runtime), "cpu", no_progress)


def test_ten_questions_about_one_image_look_at_it_once(remembering: BlipModel) -> None:
    passes, image = Watch(remembering), pictures()[0]
    found = replies(remembering, [row(image, prompts=list(PROMPTS[:2]) * 5, image_key="a")])
    assert passes.sizes == [1]
    assert len(found[0]["answers"]) == 10 and found[0]["vision_cached"] is False
    one_by_one = [replies(remembering, [row(image, prompt, image_key="a")])[0] for prompt in PROMPTS * 3]
    assert passes.sizes == [1], "they come from the cache"
    assert all(each["vision_cached"] for each in one_by_one)
    assert [each["answer"] for each in one_by_one[:2]] == [each["answer"] for each in found[0]["answers"][:2]]


def test_equal_images_of_one_batch_are_looked_at_once_even_without_a_cache(model: BlipModel) -> None:
    passes, (image, other, *_) = Watch(model), pictures()
    found = replies(
        model, [row(each, "dog", image_key=key) for each, key in [(image, "a"), (other, "b"), (image, "a")]]
    )
    assert passes.sizes == [2]
    assert [each["vision_cached"] for each in found] == [False, False, True]
    assert found[0]["answer"] == found[2]["answer"] == answers(model, [row(image, "dog")])[0]["answer"]
    assert found[1]["answer"] == answers(model, [row(other, "dog")])[0]["answer"]
    assert replies(model, [row(image, "dog", image_key="a")])[0]["vision_cached"] is False, "nothing is kept"


def test_an_answer_from_the_cache_is_the_answer_without_it(remembering: BlipModel, model: BlipModel) -> None:
    images = pictures()
    rows = [
        row(image, prompt, image_key=str(i))
        for i, (image, prompt) in enumerate(zip(images, PROMPTS, strict=True))
    ]
    expected = [
        each["answer"]
        for each in answers(
            model, [row(image, prompt) for image, prompt in zip(images, PROMPTS, strict=True)]
        )
    ]
    for is_cached in (False, True):
        found = replies(remembering, rows)
        assert [each["answer"] for each in found] == expected
        assert {each["vision_cached"] for each in found} == {is_cached}


def test_an_answer_ends_where_the_networks_positions_end(model: BlipModel) -> None:
    found = answers(model, [row(pictures()[0], "dog", 100)])[0]
    assert isinstance(found["answer"], str)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_tokens_are_counted_and_it_is_said_which_answers_were_cut(
    model: BlipModel, library: Library, num_beams: int
) -> None:
    image, cut = pictures()[0], set()
    for prompt in PROMPTS:
        for max_new_tokens in (1, 3, 12):
            inputs = library.processor(images=image, text=prompt, return_tensors="pt")
            options = {"do_sample": False, "max_new_tokens": max_new_tokens, "num_beams": num_beams}
            _, *written = library.network.generate(**inputs, **options)[0].tolist()
            ends = written[-1] == library.network.config.text_config.sep_token_id
            found = replies(model, [row(image, prompt, max_new_tokens, num_beams=num_beams)])[0]
            assert found["tokens"] == {"prompt": inputs["input_ids"].shape[1], "written": len(written)}
            assert found["is_cut"] is not ends
            cut.add(found["is_cut"])
    assert cut == {True, False}
    one_by_one = [replies(model, [row(image, prompt)])[0] for prompt in PROMPTS]
    listed = replies(model, [row(image, prompts=list(PROMPTS))])[0]
    sums = {name: sum(each["tokens"][name] for each in one_by_one) for name in ("prompt", "written")}
    assert (listed["tokens"], listed["is_cut"]) == (sums, any(each["is_cut"] for each in one_by_one))
