from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from models.answers import no_progress
from models.blip import DEFAULT_PROMPT, BlipModel, load
from models.catalogue import operator_entry
from models.errors import InvalidParameterError, UnsupportedModelError, WeightsInvalidError
from models.spec import Spec
from models.weights import sha256_of
from tests.models.blip_folder import IMAGE_SIZE, MAX_TOKENS, save_blip
from tests.models.networks import Image, PlainRow, photo, resized

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


def config(folder: Path, **more: Any) -> dict[str, Any]:
    entry = operator_entry("tiny", folder, family="blip", task="vqa")
    return {**entry.to_config(), "max_batch_size": 4, "num_threads": 2, **more}


@pytest.fixture(scope="module")
def model(folder: Path) -> BlipModel:
    return load(config(folder), "cpu", no_progress)


class Library:
    """transformers itself, as its documentation says to use it: one image, one question."""

    def __init__(self, folder: Path) -> None:
        from transformers import BlipForQuestionAnswering, BlipProcessor

        self.processor: Any = BlipProcessor.from_pretrained(folder)
        network: Any = BlipForQuestionAnswering.from_pretrained(folder)
        self.network = network.eval()

    def __call__(self, image: Image, prompt: str, **options: int) -> str:
        inputs = self.processor(images=image, text=prompt, return_tensors="pt")
        tokens = self.network.generate(**inputs, do_sample=False, **options)
        answer: str = self.processor.decode(tokens[0], skip_special_tokens=True)
        return answer


@pytest.fixture(scope="module")
def library(folder: Path) -> Library:
    return Library(folder)


def pictures() -> list[Image]:
    named = [photo("bus.jpg"), photo("zidane.jpg")]
    parts = [named[0][:500], named[1][:, :600], named[0][500:], named[1][:, 600:]]
    return [resized(part, IMAGE_SIZE, IMAGE_SIZE) for part in parts]


def row(image: Image, prompt: str | None, max_new_tokens: int = 8, num_beams: int = 1) -> PlainRow:
    pixels = image.copy()
    pixels.flags.writeable = False  # as slots are in a worker
    params = {"width": 100, "height": 80, "max_new_tokens": max_new_tokens, "num_beams": num_beams}
    return PlainRow(pixels, params if prompt is None else {**params, "prompt": prompt})


def answers(model: BlipModel, rows: list[PlainRow]) -> list[Mapping[str, str]]:
    fragments = model.infer(rows).fragments
    assert all(isinstance(fragment, bytes) for fragment in fragments)
    return [orjson.loads(fragment) for fragment in fragments]  # type: ignore[arg-type]


@pytest.mark.parametrize("num_beams", BEAMS)
def test_answers_are_the_librarys(model: BlipModel, library: Library, num_beams: int) -> None:
    said = set()
    for image in pictures():
        for prompt in PROMPTS:
            expected = library(image, prompt, max_new_tokens=8, num_beams=num_beams)
            assert answers(model, [row(image, prompt, num_beams=num_beams)]) == [
                {"answer": expected, "prompt": prompt}
            ]
            said.add(expected)
    assert len(said) >= 8  # or the comparison says nothing


@pytest.mark.parametrize("num_beams", BEAMS)
def test_an_answer_does_not_depend_on_its_batch_mates(
    model: BlipModel, library: Library, num_beams: int
) -> None:
    images = pictures()
    for shift in range(4):
        pairs = [(images[index], PROMPTS[(index + shift) % 4]) for index in range(4)]
        together = answers(model, [row(image, prompt, num_beams=num_beams) for image, prompt in pairs])
        for (image, prompt), found in zip(pairs, together, strict=True):
            expected = library(image, prompt, max_new_tokens=8, num_beams=num_beams)
            assert found == {"answer": expected, "prompt": prompt}


def test_the_libraries_own_batches_do_depend_on_their_mates(library: Library) -> None:
    """Why this adapter puts the network together itself; when this fails, the library may be used as it is."""
    images, prompts = pictures(), list(PROMPTS)
    inputs = library.processor(images=images, text=prompts, padding=True, return_tensors="pt")
    tokens = library.network.generate(**inputs, do_sample=False, max_new_tokens=8)
    together = library.processor.batch_decode(tokens, skip_special_tokens=True)
    alone = [library(image, prompt, max_new_tokens=8) for image, prompt in zip(images, prompts, strict=True)]
    assert together != alone


def test_pixels_are_normalised_as_the_processor_does(model: BlipModel, library: Library) -> None:
    import torch

    images = pictures()
    expected = library.processor(images=images, text=[""] * 4, return_tensors="pt")["pixel_values"]
    found = model._normalisation.apply(np.stack(images), torch.device("cpu"))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


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


@pytest.mark.parametrize(
    "params",
    [
        {"prompt": 3},
        {"prompt": ["a"]},
        {"prompt": "half \ud800"},
        {"num_beams": 0},
        {"num_beams": "many"},
        {"max_new_tokens": 0},
    ],
)
def test_impossible_parameters_fail_their_row(model: BlipModel, params: dict[str, Any]) -> None:
    error = model.infer([PlainRow(pictures()[0], params)]).fragments[0]
    assert isinstance(error, InvalidParameterError)
    assert error.code == "invalid_parameter"


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
    assert (spec.device, spec.runtime, spec.precision) == ("cpu", "torch", "fp32")
    assert spec.weights_sha256 == sha256_of(folder / "model.safetensors")


def test_stages_are_timed_and_reported(model: BlipModel, folder: Path) -> None:
    timings = model.infer([row(pictures()[0], "dog")]).timings
    assert set(timings) == {"infer", "post"}
    stages: list[str] = []
    load(config(folder, max_batch_size=1), "cpu", lambda step: stages.append(step["stage"]))
    assert stages == ["load", "warm_up"]


def test_the_older_file_layout_is_read(folder: Path, tmp_path: Path, model: BlipModel) -> None:
    older = copy_of(folder, tmp_path / "older")
    stored = json.loads((older / "processor_config.json").read_text())
    (older / "processor_config.json").unlink()
    (older / "preprocessor_config.json").write_text(
        json.dumps({**stored["image_processor"], "size": IMAGE_SIZE})
    )
    tokens = json.loads((older / "tokenizer.json").read_text())["model"]["vocab"]
    (older / "tokenizer.json").unlink()
    (older / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens))
    rows = [row(image, prompt) for image, prompt in zip(pictures(), PROMPTS, strict=True)]
    assert answers(load(config(older), "cpu", no_progress), rows) == answers(model, rows)


def copy_of(folder: Path, target: Path) -> Path:
    target.mkdir()
    for path in folder.iterdir():
        os.link(path, target / path.name)
    return target


def replaced(folder: Path, target: Path, name: str, body: bytes) -> Path:
    copy_of(folder, target)
    (target / name).unlink()
    (target / name).write_bytes(body)
    return target


def test_weights_that_lack_tensors_are_invalid(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save

    tensors = load_file(folder / "model.safetensors")
    tensors.pop("text_encoder.encoder.layer.1.output.dense.weight")
    short = replaced(
        folder, tmp_path / "short", "model.safetensors", save(tensors, metadata={"format": "pt"})
    )
    with pytest.raises(WeightsInvalidError, match="lacks 1 tensors") as caught:
        load(config(short), "cpu", no_progress)
    assert caught.value.permanent


def test_damaged_weights_are_invalid(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    for name, body in {"half": whole[: len(whole) // 2], "empty": b"", "text": b"not weights"}.items():
        damaged = replaced(folder, tmp_path / name, "model.safetensors", body)
        with pytest.raises(WeightsInvalidError, match="not a loadable model"):
            load(config(damaged), "cpu", no_progress)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "processor_config.json"])
def test_damaged_settings_are_invalid(folder: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(WeightsInvalidError):
        load(config(replaced(folder, tmp_path / "damaged", name, b"{")), "cpu", no_progress)


def test_pickled_weights_are_not_read(folder: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    pickled = copy_of(folder, tmp_path / "pickled")
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    with pytest.raises(WeightsInvalidError, match=r"model\.safetensors"):
        load(config(pickled), "cpu", no_progress)


def test_another_architecture_is_not_supported(folder: Path, tmp_path: Path) -> None:
    stored = json.loads((folder / "config.json").read_text())
    stored["architectures"] = ["BlipForConditionalGeneration"]
    other = replaced(folder, tmp_path / "other", "config.json", json.dumps(stored).encode())
    with pytest.raises(UnsupportedModelError, match="BlipForConditionalGeneration"):
        load(config(other), "cpu", no_progress)


def test_an_image_processor_for_another_size_is_not_supported(folder: Path, tmp_path: Path) -> None:
    stored = json.loads((folder / "processor_config.json").read_text())
    stored["image_processor"]["size"] = {"height": 64, "width": 64}
    other = replaced(folder, tmp_path / "other", "processor_config.json", json.dumps(stored).encode())
    with pytest.raises(UnsupportedModelError, match="64"):
        load(config(other), "cpu", no_progress)
