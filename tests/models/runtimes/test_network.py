"""Weights in, a runtime out: with real networks, converted for real."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.answers import no_progress
from models.catalogue import CATALOGUE
from models.errors import RuntimeUnavailableError, WeightsMismatchError
from models.runtimes import network as network_module
from models.runtimes.agreement import SAME, compare
from models.runtimes.conversion import NO_OPENVINO, ConversionError
from models.runtimes.network import Opened, Source, open_network
from models.runtimes.pictures import answers, sample_pictures
from models.runtimes.place import Place
from models.runtimes.wish import Wish
from models.weights import PACKAGE, sha256_of
from tests.models.networks import save_yolo

WEIGHTS = PACKAGE / CATALOGUE["shapes-detect"].weights
SIDE = 96
PLACE = Place("cpu", 2, 1)
HEADS = (
    ("yolov8n.yaml", None),
    ("yolo26n.yaml", True),
    ("yolov8n-seg.yaml", None),
    ("yolo26n-pose.yaml", True),
    ("yolov8n-obb.yaml", None),
    ("yolov8n-cls.yaml", None),
    ("rtdetr-l.yaml", None),
)


def source(path: Path = WEIGHTS, **fields: Any) -> Source:
    return Source(path, sha256_of(path), SIDE, **fields)


def opened(folder: Path | None, **wish: str) -> Opened:
    return open_network(source(), Wish(folder=folder, **wish), PLACE, no_progress)


def runs_as(one: Opened) -> tuple[str, str]:
    return one.runtime.name, one.runtime.precision


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With `shapes-detect` converted."""
    path = tmp_path_factory.mktemp("converted")
    assert runs_as(opened(path, runtime="openvino", precision="fp32")) == ("openvino", "fp32")
    return path


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(folder, tmp_path / "own"))


@pytest.fixture
def no_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("converted again")

    monkeypatch.setattr(network_module, "convert", refuse)
    monkeypatch.setattr(Source, "read", refuse)


@pytest.mark.parametrize(("architecture", "end2end"), HEADS)
def test_a_converted_network_answers_as_the_one_in_pytorch(
    architecture: str, end2end: bool | None, tmp_path: Path
) -> None:
    path = save_yolo(tmp_path / "random.pt", architecture, SIDE)
    which = source(path, end2end=end2end)
    torch = open_network(which, Wish(), PLACE, no_progress)
    ours = open_network(which, Wish("openvino", "fp32"), PLACE, no_progress)
    assert (runs_as(torch), runs_as(ours)) == (("torch", "fp32"), ("openvino", "fp32"))
    assert ours.traits == torch.traits
    pictures = sample_pictures(ours.traits.input_shape)
    pair = [answers(each.runtime, pictures, PLACE.max_batch_size) for each in (torch, ours)]
    difference = compare(*pair, ours.traits)
    assert difference.num_candidates >= len(pictures)
    assert not difference.broken(SAME)


@pytest.mark.usefixtures("no_conversion")
def test_what_is_on_the_disk_is_not_converted_again(folder: Path) -> None:
    assert runs_as(opened(folder, runtime="openvino", precision="fp32")) == ("openvino", "fp32")


def test_a_damaged_network_is_converted_again(own: Path) -> None:
    (constants,) = own.glob("*/network.bin")
    whole = constants.read_bytes()
    constants.write_bytes(whole[:-1000] + bytes(1000))
    assert runs_as(opened(own, runtime="openvino", precision="fp32")) == ("openvino", "fp32")
    assert constants.read_bytes() == whole


def test_another_task_is_refused_although_the_network_is_there(folder: Path) -> None:
    with pytest.raises(WeightsMismatchError):
        open_network(source(task="pose"), Wish("openvino", "fp32", folder), PLACE, no_progress)


def test_without_a_disk_it_runs_all_the_same_and_one_line_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        one = opened(tmp_path / "file" / "converted", runtime="openvino", precision="fp32")
    assert runs_as(one) == ("openvino", "fp32")
    assert [record.message for record in caplog.records] == ["converted network not kept"]


@pytest.mark.parametrize("how", ["raises", "differs"])
def test_a_conversion_that_fails_or_differs_leaves_pytorch_and_is_not_tried_again(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if how == "raises":

        def fail(*_: object) -> None:
            raise ConversionError("no such operator")

        monkeypatch.setattr(network_module, "convert", fail)
    else:
        monkeypatch.setattr(network_module, "SAME", network_module.SAME.__class__(2.0, 0, 0, 0, 0, 0))
    with caplog.at_level(logging.WARNING):
        first = opened(tmp_path, runtime="openvino", precision="fp32")
    assert runs_as(first) == ("torch", "fp32")
    (record,) = (record for record in caplog.records if record.message == "network not converted")
    assert ("no such operator" if how == "raises" else "answers otherwise") in vars(record)["reason"]
    assert first.reason == NO_OPENVINO, "anybody may read it"
    monkeypatch.setattr(network_module, "convert", lambda *_: pytest.fail("tried again"))
    assert opened(tmp_path, runtime="auto").reason == first.reason


def test_auto_takes_the_fastest_once_and_remembers_why(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(own, runtime="auto", precision="fp32")
    assert "fastest on this machine" in first.reason
    assert "torch fp32" in first.reason
    assert "openvino fp32" in first.reason
    monkeypatch.setattr(network_module, "choose", lambda *_: pytest.fail("measured again"))
    again = opened(own, runtime="auto", precision="fp32")
    assert (runs_as(again), again.reason) == (runs_as(first), first.reason)
    (choice,) = own.glob("*/choice-*.json")
    choice.write_text('{"runtime": "cuda"}')
    with pytest.raises(BaseException, match="measured again"):
        opened(own, runtime="auto", precision="fp32")


@pytest.mark.parametrize(
    ("runtime", "precision", "device", "why"),
    [
        ("tensorrt", "auto", "cpu", "NVIDIA"),
        ("openvino", "auto", "cuda:0", "runs on the CPU"),
        ("torch", "bf16", "cpu", "torch runs fp32"),
        ("openvino", "fp16", "cpu", "openvino fp32"),
        ("auto", "bf16", "cpu", "no bfloat16"),
    ],
)
def test_what_cannot_be_had_is_refused(
    runtime: str, precision: str, device: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_module, "capabilities", lambda: ["FP32", "INT8"])
    with pytest.raises(RuntimeUnavailableError, match=why) as caught:
        open_network(source(), Wish(runtime, precision), Place(device, 1), no_progress)
    assert caught.value.permanent


def test_int8_is_refused_without_a_calibrated_network(folder: Path) -> None:
    with pytest.raises(RuntimeUnavailableError, match="calibrated"):
        opened(folder, runtime="openvino", precision="int8")


def test_a_config_without_words_of_it_means_pytorch_in_fp32() -> None:
    assert Wish.from_config({}) == Wish("torch", "fp32", None)
    assert Wish.from_config({"runtime": "auto", "converted_dir": "/c"}) == Wish("auto", "auto", Path("/c"))


def test_a_worker_that_finds_its_network_converted_imports_neither_torch_nor_the_library(
    folder: Path,
) -> None:
    config = {
        **CATALOGUE["shapes-detect"].to_config(), "imgsz": SIDE, "task": None, "max_batch_size": 2, "num_threads": 1,
        "runtime": "openvino", "precision": "fp32", "converted_dir": str(folder),
    }  # fmt: skip
    code = (
        "import sys\n"
        "from models.guarded import load_yolo\n"
        f"model = load_yolo({config!r}, 'cpu', lambda step: None)\n"
        "assert model.spec['runtime'] == 'openvino', model.spec\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.split())
    assert {"numpy", "openvino"} <= imported
    assert not imported & {"torch", "torchvision", "ultralytics", "transformers"}


def test_the_answers_of_a_batch_are_those_of_its_images_alone(folder: Path) -> None:
    one = opened(folder, runtime="openvino", precision="fp32")
    pictures = sample_pictures(one.traits.input_shape)[:2]
    together = np.array(one.runtime.launch(pictures).result())
    alone = np.concatenate([np.array(one.runtime.launch([each]).result()) for each in pictures])
    np.testing.assert_array_equal(together, alone)
