"""Captions; answers are tested in test_blip.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.answers import no_progress
from models.blip import BlipModel, load
from models.errors import InvalidParameterError
from tests.models.blip_folder import MAX_TOKENS, save_blip
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
from tests.models.networks import Image

ARCHITECTURE = "BlipForConditionalGeneration"
PREFIXES = (None, "a", "two small dogs on the street", "A big red")
BEAMS = [1, 3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_blip(tmp_path_factory.mktemp("blip") / "captions", ARCHITECTURE)


@pytest.fixture(scope="module", params=RUNTIMES)
def model(
    folder: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> BlipModel:
    converted = tmp_path_factory.getbasetemp() / "converted"
    return load(config(folder, **runtime_config(request.param, converted)), "cpu", no_progress)


@pytest.fixture(scope="module")
def library(folder: Path) -> Library:
    return Library(folder, ARCHITECTURE)


def expected(library: Library, image: Image, prefix: str | None, **options: int) -> dict[str, str]:
    caption = library(image, prefix, **{"max_new_tokens": 8, **options})
    return {"caption": caption} if prefix is None else {"caption": caption, "prompt": prefix}


@pytest.mark.parametrize("num_beams", BEAMS)
def test_captions_are_the_librarys_whoever_shares_the_batch(
    model: BlipModel, library: Library, num_beams: int
) -> None:
    images, said = pictures(), set()
    for shift in range(4):
        pairs = [(images[index], PREFIXES[(index + shift) % 4]) for index in range(4)]
        together = answers(model, [row(image, prefix, num_beams=num_beams) for image, prefix in pairs])
        for (image, prefix), found in zip(pairs, together, strict=True):
            assert found == expected(library, image, prefix, num_beams=num_beams)
            assert answers(model, [row(image, prefix, num_beams=num_beams)]) == [found]
            said.add(found["caption"])
    assert len(said) >= 12  # or the comparison says nothing
    assert len({len(caption.split()) for caption in said}) >= 4, "some end early"


def test_the_prefix_begins_the_caption(model: BlipModel) -> None:
    found = answers(model, [row(pictures()[0], "A big RED")])[0]
    assert found["prompt"] == "A big RED"
    assert found["caption"].startswith("a big red")


@pytest.mark.parametrize("prompt", [None, "", "  \n"])
def test_without_a_prefix_the_caption_begins_freely(
    model: BlipModel, library: Library, prompt: str | None
) -> None:
    image = pictures()[0]
    assert answers(model, [row(image, prompt)]) == [expected(library, image, None)]
    assert library(image, "", max_new_tokens=8) == library(image, None, max_new_tokens=8)


@pytest.mark.parametrize("num_beams", BEAMS)
def test_a_list_of_prefixes_gets_the_captions_that_each_gets_alone(model: BlipModel, num_beams: int) -> None:
    image = pictures()[1]
    prompts = ["a", "", "two small dogs on the street", "a big red bus", "the man"]
    alone = [answers(model, [row(image, prompt, num_beams=num_beams)])[0] for prompt in prompts]
    found = replies(model, [row(image, prompts=prompts, num_beams=num_beams)])[0]
    assert found["captions"] == [
        {"prompt": prompt, "caption": each["caption"]} for prompt, each in zip(prompts, alone, strict=True)
    ]


def test_scores_of_a_row_do_not_depend_on_its_batch_mates(model: BlipModel) -> None:
    """Tokens could agree by luck: the numbers they are chosen by agree as well, step by step."""
    steps = Watch(model).scores
    pairs = list(zip(pictures(), PREFIXES, strict=True))
    model.infer([row(image, prefix) for image, prefix in pairs])
    together = [steps.pop(0) for _ in range(len(steps))]
    num_compared = 0
    for index, (image, prefix) in enumerate(pairs):
        model.infer([row(image, prefix)])
        for alone, beside in zip(steps, together, strict=False):
            np.testing.assert_allclose(alone[0], beside[index], rtol=0, atol=1e-3)
            num_compared += 1
        steps.clear()
    assert num_compared >= 12


def test_a_prefix_that_leaves_no_room_for_a_caption_fails_its_row_alone(
    model: BlipModel, library: Library
) -> None:
    image = pictures()[0]
    fits = " ".join(["cat"] * (MAX_TOKENS - 8))  # with the token that begins, 8 - 1 more are read again
    answered = model.infer([row(image, fits), row(image, fits + " cat"), row(image, "dog")])
    assert [isinstance(each, InvalidParameterError) for each in answered.fragments] == [False, True, False]
    assert answers(model, [row(image, fits)]) == [expected(library, image, fits)]


def test_the_beginning_of_a_caption_is_not_counted_as_written(model: BlipModel) -> None:
    found = replies(model, [row(pictures()[0], "two small cats", 1)])[0]
    assert (found["tokens"], found["is_cut"]) == ({"prompt": 4, "written": 1}, True)
    assert len(found["caption"].split()) == 4


def test_captions_are_as_long_as_asked(model: BlipModel, library: Library) -> None:
    image = pictures()[2]
    for max_new_tokens in (1, 3, 12):
        found = answers(model, [row(image, "a", max_new_tokens)])
        assert found == [expected(library, image, "a", max_new_tokens=max_new_tokens)]


def test_any_text_is_a_prefix(model: BlipModel, library: Library) -> None:
    for prefix in ("[SEP] [PAD] [MASK]", "\x00\ufffd\u202e", "\U0001f600" * 10, "CAFÉ ñ 猫"):
        image = pictures()[0]
        assert answers(model, [row(image, prefix)]) == [expected(library, image, prefix)]


def test_the_spec_tells_the_task(model: BlipModel) -> None:
    assert (model.spec["family"], model.spec["task"]) == ("blip", "caption")
