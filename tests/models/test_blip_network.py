"""Where BLIP's networks come from: converted once, then read. What they say is tested in test_blip.py."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import blip, blip_network
from models.answers import no_progress
from models.blip import BlipModel, load
from models.errors import RuntimeUnavailableError, WeightsMismatchError
from models.runtimes import blip_conversion
from models.runtimes.blip_functions import seer
from models.runtimes.conversion import NO_OPENVINO
from models.runtimes.wish import capabilities
from tests.models.blip_folder import save_blip
from tests.models.blip_library import (
    RUNTIMES,
    Library,
    answers,
    config,
    pictures,
    replies,
    row,
    runtime_config,
)

HEAVY = {"torch", "transformers", "ultralytics", "torchvision"}

_LOAD = """
import json, sys
from models.answers import WarmUpRow, no_progress
from models.blip import load
import numpy as np
model = load(json.loads(sys.argv[1]), "cpu", no_progress)
pixels = np.full(model.slot_shape, 90, np.uint8)
params = {"prompt": "dog", "max_new_tokens": 6, "num_beams": 2}
(fragment,) = model.infer([WarmUpRow(pixels, params)]).fragments
print(json.dumps({"reply": json.loads(fragment), "modules": sorted(sys.modules)}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_blip(tmp_path_factory.mktemp("blip") / "vqa")


@pytest.fixture(scope="module")
def untouched(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `folder`'s networks converted and nothing else. To be copied."""
    kept = tmp_path_factory.mktemp("untouched")
    opened(folder, kept)
    return kept


@pytest.fixture(scope="module")
def converted(untouched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where `folder`'s networks are already, for all tests."""
    return Path(shutil.copytree(untouched, tmp_path_factory.mktemp("converted") / "all"))


@pytest.fixture
def own(untouched: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    return Path(shutil.copytree(untouched, tmp_path / "own"))


def opened(folder: Path, kept: Path, **more: Any) -> tuple[BlipModel, list[str]]:
    """A model, and the stages of its loading."""
    stages: list[str] = []
    asked = config(folder, **{**runtime_config("openvino", kept), **more})
    return load(asked, "cpu", lambda step: stages.append(step["stage"])), stages


@pytest.fixture(scope="module")
def said_by_pytorch(folder: Path) -> list[Mapping[str, Any]]:
    """What `said` gives of the network as it is stored."""
    return said(load(config(folder), "cpu", no_progress))


def said(model: BlipModel) -> list[Mapping[str, Any]]:
    return answers(model, [row(image, "dog", 6) for image in pictures()])


@pytest.mark.timeout(300)  # the libraries are imported, a network converted, and a process started
@pytest.mark.parametrize("architecture", ["BlipForQuestionAnswering", "BlipForConditionalGeneration"])
def test_a_worker_that_finds_converted_networks_imports_neither_torch_nor_transformers(
    tmp_path: Path, architecture: str
) -> None:
    folder, converted = save_blip(tmp_path / "tiny", architecture), tmp_path / "converted"
    opened(folder, converted)
    asked = config(folder, **runtime_config("openvino", converted))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _LOAD, json.dumps(asked)],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert not {name.partition(".")[0] for name in found["modules"]} & HEAVY
    pixels = np.full((48, 48, 3), 90, np.uint8)
    in_torch = load(config(folder), "cpu", no_progress)
    assert [found["reply"]] == replies(in_torch, [row(pixels, "dog", 6, num_beams=2)])


def test_networks_are_converted_once(folder: Path, converted: Path) -> None:
    model, stages = opened(folder, converted)
    assert stages == ["load", "warm_up"]
    assert (model.spec["runtime"], model.spec["precision"]) == ("openvino", "fp32")


def test_whatever_changes_the_network_converts_it_anew(folder: Path, converted: Path) -> None:
    path = folder / "processor_config.json"
    stored = path.read_text()
    assert '"rescale_factor": 0.00392156862745098' in stored
    path.write_text(stored.replace("0.00392156862745098", "0.0078"))
    try:
        changed, stages = opened(folder, converted)
        assert "convert" in stages
        assert said(changed) == said(load(config(folder), "cpu", no_progress))
    finally:
        path.write_text(stored)
    assert "convert" not in opened(folder, converted)[1]


def test_a_damaged_network_is_converted_anew(
    folder: Path, own: Path, said_by_pytorch: list[Mapping[str, Any]]
) -> None:
    (constants,) = own.glob("*/step.bin")
    constants.write_bytes(constants.read_bytes()[:-100])
    model, stages = opened(folder, own)
    assert "convert" in stages and said(model) == said_by_pytorch
    assert "convert" not in opened(folder, own)[1]


@pytest.mark.parametrize("place", ["nowhere", "a file"])
def test_networks_that_cannot_be_kept_are_converted_for_the_worker_alone(
    folder: Path, tmp_path: Path, said_by_pytorch: list[Mapping[str, Any]], place: str
) -> None:
    (tmp_path / "file").touch()
    kept = {"nowhere": None, "a file": str(tmp_path / "file" / "below")}[place]
    model, stages = opened(folder, tmp_path, converted_dir=kept)
    assert "convert" in stages
    assert said(model) == said_by_pytorch


@pytest.mark.parametrize("how", ["raises", "differs"])
def test_a_conversion_that_fails_or_differs_leaves_pytorch_and_is_not_tried_again(
    how: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no such operator")

    def shift(network: Any, *_: object) -> Any:
        return lambda pixels: 1.1 * seer(network, *_)(pixels)

    replaced = {"raises": ("_traced", fail), "differs": ("seer", shift)}[how]
    monkeypatch.setattr(blip_conversion, *replaced)
    refused, stages = opened(folder, tmp_path, runtime="auto")
    why = {"raises": "ValueError: no such operator", "differs": "answers otherwise than PyTorch: embeddings"}[
        how
    ]
    assert "convert" in stages
    (record,) = caplog.records
    assert record.message == "network not converted" and why in vars(record)["reason"]
    assert refused.spec["runtime_reason"] == NO_OPENVINO, "anybody may read it"
    assert (refused.spec["runtime"], refused.spec["precision"]) == ("torch", "fp32")
    again, stages = opened(folder, tmp_path, runtime="auto")
    assert "convert" not in stages and again.spec == refused.spec


def test_the_best_batch_size_is_measured_once_for_each_number_of_threads(
    folder: Path, converted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []

    def measure(_: object, max_batch_size: int) -> int:
        measured.append(max_batch_size)
        return 2

    monkeypatch.setattr(blip, "measured_batch_size", measure)
    for more in ({}, {}, {"num_threads": 2}, {"max_batch_size": 3}, {"num_threads": 2}):
        model, _ = opened(folder, converted, **{"max_batch_size": 7, **more})
        assert model.best_batch_size == 2
    assert measured == [7, 7, 3]


@pytest.mark.parametrize("room", [100, 20_000], ids=["for nothing", "for the vocabulary alone"])
def test_a_full_disk_costs_no_more_than_the_keeping(
    folder: Path,
    tmp_path: Path,
    said_by_pytorch: list[Mapping[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    room: int,
) -> None:
    write = blip_network._Opening._write

    def write_with_little_room(opening: Any, checkpoint: Any, where: Path, precision: str) -> None:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        if where.is_relative_to(tmp_path):
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        try:
            write(opening, checkpoint, where, precision)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    monkeypatch.setattr(blip_network._Opening, "_write", write_with_little_room)
    model, _ = opened(folder, tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
    assert said(model) == said_by_pytorch


def test_a_task_that_the_folder_is_not_for_is_refused_though_it_is_converted(
    folder: Path, converted: Path
) -> None:
    with pytest.raises(WeightsMismatchError):
        opened(folder, converted, task="caption")


def test_the_fastest_precision_that_the_processor_has_is_chosen(folder: Path, converted: Path) -> None:
    model, _ = opened(folder, converted, runtime="auto", precision="auto")
    expected = "bf16" if "BF16" in capabilities() else "fp32"
    assert (model.spec["runtime"], model.spec["precision"]) == ("openvino", expected)
    assert model.spec["runtime_reason"].startswith(f"openvino {expected} is the fastest")


@pytest.mark.parametrize("asked", [{"runtime": "tensorrt"}, {"runtime": "torch", "precision": "int8"}])
def test_what_a_processor_cannot_have_is_refused(folder: Path, tmp_path: Path, asked: dict[str, str]) -> None:
    with pytest.raises(RuntimeUnavailableError):
        opened(folder, tmp_path, **asked)


def test_int8_weights_take_a_fraction_of_the_bytes_and_see_nearly_the_same(
    folder: Path, converted: Path
) -> None:
    whole, _ = opened(folder, converted)
    small, _ = opened(folder, converted, precision="int8")
    assert small.spec["precision"] == "int8"
    sizes = sorted(path.stat().st_size for path in converted.glob("*/step.bin"))
    assert sizes[0] < 0.5 * sizes[-1]
    exact, rounded = (np.stack(model._eye._runtime.see(pictures())) for model in (whole, small))  # type: ignore[arg-type]
    assert 0 < np.abs(exact - rounded).mean() < 0.1 * np.abs(exact).mean()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_texts_may_be_wider_than_images(tmp_path: Path, runtime: str) -> None:
    """As in the large captioner, the other way round."""
    architecture = "BlipForConditionalGeneration"
    folder = save_blip(tmp_path / "wide", architecture, hidden_size=48)
    model = load(config(folder, **runtime_config(runtime, tmp_path / "kept")), "cpu", no_progress)
    library, image = Library(folder, architecture), pictures()[0]
    for num_beams in (1, 2):
        (found,) = answers(model, [row(image, "a red", num_beams=num_beams)])
        assert found["caption"] == library(image, "a red", max_new_tokens=8, num_beams=num_beams)
