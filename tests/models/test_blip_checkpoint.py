from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from models.answers import no_progress
from models.blip import load
from models.blip_checkpoint import read_blip
from models.errors import UnsupportedModelError, WeightsInvalidError, WeightsMismatchError
from tests.models.blip_folder import IMAGE_SIZE, save_blip
from tests.models.blip_library import answers, config, pictures, row

PROMPTS = ("dog", "how many cats are there?", "what is the colour of the bus", "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_blip(tmp_path_factory.mktemp("blip") / "tiny")


def test_the_older_file_layout_is_read(folder: Path, tmp_path: Path) -> None:
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
    assert answers(load(config(older), "cpu", no_progress), rows) == answers(
        load(config(folder), "cpu", no_progress), rows
    )


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


@pytest.mark.parametrize("architectures", [["BlipForImageTextRetrieval"], [], None])
def test_another_architecture_is_not_supported(
    folder: Path, tmp_path: Path, architectures: list[str] | None
) -> None:
    stored = json.loads((folder / "config.json").read_text())
    stored["architectures"] = architectures
    other = replaced(folder, tmp_path / "other", "config.json", json.dumps(stored).encode())
    with pytest.raises(
        UnsupportedModelError, match="BlipForQuestionAnswering and BlipForConditionalGeneration"
    ):
        load(config(other), "cpu", no_progress)


def test_the_folder_tells_the_task(folder: Path, tmp_path: Path) -> None:
    captions = save_blip(tmp_path / "captions", "BlipForConditionalGeneration")
    assert [read_blip(each).traits.task for each in (folder, captions)] == ["vqa", "caption"]
    assert [read_blip(folder, "vqa").traits.task, read_blip(captions, "caption").traits.task] == [
        "vqa",
        "caption",
    ]
    for wrong, message in ((folder, "for vqa.*say caption"), (captions, "for caption.*say vqa")):
        task = "caption" if wrong is folder else "vqa"
        with pytest.raises(WeightsMismatchError, match=message) as caught:
            load(config(wrong, task=task), "cpu", no_progress)
        assert caught.value.permanent


def test_an_image_processor_for_another_size_is_not_supported(folder: Path, tmp_path: Path) -> None:
    stored = json.loads((folder / "processor_config.json").read_text())
    stored["image_processor"]["size"] = {"height": 64, "width": 64}
    other = replaced(folder, tmp_path / "other", "processor_config.json", json.dumps(stored).encode())
    with pytest.raises(UnsupportedModelError, match="64"):
        load(config(other), "cpu", no_progress)
