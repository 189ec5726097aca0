from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from models.checkpoint import read_checkpoint
from models.errors import (
    UnsafeLoadingError,
    UnsupportedModelError,
    WeightsInvalidError,
    WeightsMismatchError,
)
from tests.models.networks import SIZE, save_yolo


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_yolo(tmp_path_factory.mktemp("checkpoint") / "random.pt")


class Evil:
    """Calls `function` when it is unpickled."""

    def __init__(self, function: Callable[[str], object], argument: str) -> None:
        self._call = function, (argument,)

    def __reduce__(self) -> object:
        return self._call


def test_a_checkpoint_is_read_fused_and_in_eval_mode(weights: Path) -> None:
    import torch

    checkpoint = read_checkpoint(weights, None)
    assert (checkpoint.traits.task, checkpoint.traits.end2end) == ("detect", False)
    assert (checkpoint.traits.height, checkpoint.traits.width) == (SIZE, SIZE)
    assert not checkpoint.network.training
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in checkpoint.network.modules())


def test_weights_stored_in_half_precision_are_read_as_float32(weights: Path, tmp_path: Path) -> None:
    import torch

    full = torch.load(weights, weights_only=False)
    torch.save({**full, "model": full["model"].half()}, tmp_path / "half.pt")
    network = read_checkpoint(tmp_path / "half.pt", None).network
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_without_a_stored_size_it_is_640(weights: Path, tmp_path: Path) -> None:
    import torch

    torch.save({**torch.load(weights, weights_only=False), "train_args": {}}, tmp_path / "plain.pt")
    checkpoint = read_checkpoint(tmp_path / "plain.pt", None)
    assert (checkpoint.traits.height, checkpoint.traits.width) == (640, 640)


def test_weights_are_not_read_while_safe_loading_is_off(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ultralytics.nn import tasks

    monkeypatch.setattr(tasks, "SAFE_LOAD", False)
    with pytest.raises(UnsafeLoadingError, match="ULTRALYTICS_SAFE_LOAD"):
        read_checkpoint(weights, None)


@pytest.mark.parametrize(
    "function", [os.mkdir, os.system, eval, exec], ids=lambda function: function.__name__
)
def test_code_in_weights_is_not_run(function: Callable[[str], object], tmp_path: Path) -> None:
    import torch

    trace = tmp_path / "trace"
    argument = {"mkdir": str(trace), "system": f"touch {trace}"}.get(
        function.__name__, f"__import__('os').mkdir({str(trace)!r})"
    )
    evil = Evil(function, argument)
    torch.save({"model": evil}, tmp_path / "evil.pt")
    torch.save({"model": None, "train_args": {"imgsz": evil}}, tmp_path / "beside.pt")
    torch.save({"model": evil}, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "old.pt").write_bytes(pickle.dumps(evil))
    for name in ("evil.pt", "beside.pt", "legacy.pt", "old.pt"):
        with pytest.raises(WeightsInvalidError) as caught:
            read_checkpoint(tmp_path / name, None)
        assert caught.value.permanent
    assert not trace.exists()
    pickle.loads(pickle.dumps(evil))
    assert trace.exists(), "it would have run"


def test_damaged_weights_are_invalid(weights: Path, tmp_path: Path) -> None:
    whole = weights.read_bytes()
    damaged = {
        "empty": b"",
        "text": b"not weights",
        "half": whole[: len(whole) // 2],
        "tail": whole[:-100],
        "image": b"\xff\xd8\xff" + os.urandom(1000),
    }
    for name, body in damaged.items():
        path = tmp_path / f"{name}.pt"
        path.write_bytes(body)
        with pytest.raises(WeightsInvalidError, match=rf"{name}\.pt"):
            read_checkpoint(path, None)


def test_a_file_without_a_network_is_invalid(tmp_path: Path) -> None:
    import torch

    torch.save({"weights": torch.zeros(3)}, tmp_path / "tensors.pt")
    with pytest.raises(WeightsInvalidError):
        read_checkpoint(tmp_path / "tensors.pt", None)


def test_another_task_than_the_settings_say_is_refused_for_good(weights: Path) -> None:
    assert read_checkpoint(weights, None, task="detect").traits.task == "detect"
    with pytest.raises(
        WeightsMismatchError, match=r"random\.pt is for task detect, the settings say segment"
    ) as caught:
        read_checkpoint(weights, None, task="segment")
    assert (caught.value.code, caught.value.permanent) == ("weights_mismatch", True)


def test_a_network_of_another_kind_is_invalid(tmp_path: Path) -> None:
    import torch

    torch.save({"model": torch.nn.Sequential(torch.nn.Linear(2, 2))}, tmp_path / "other.pt")
    torch.save({"model": {"layer.weight": torch.zeros(3)}}, tmp_path / "state.pt")  # as SAM's files are
    with pytest.raises(WeightsInvalidError, match="it holds a Sequential, not one of the library's networks"):
        read_checkpoint(tmp_path / "other.pt", None)
    with pytest.raises(WeightsInvalidError, match=r"state\.pt is not a loadable checkpoint"):
        read_checkpoint(tmp_path / "state.pt", None)


def test_labels_that_do_not_fit_the_network_are_invalid(weights: Path, tmp_path: Path) -> None:
    import torch

    stored = torch.load(weights, weights_only=False)
    for names, named in (({0: "only"}, "1 labels for 80"), ({1: "gap", 3: "gap"}, "0"), (None, "names.pt")):
        stored["model"].names = names
        torch.save(stored, tmp_path / "names.pt")
        with pytest.raises(WeightsInvalidError, match=named):
            read_checkpoint(tmp_path / "names.pt", None)


def test_a_network_for_grey_images_is_not_supported(tmp_path: Path) -> None:
    import torch
    from ultralytics.nn.tasks import DetectionModel

    torch.save({"model": DetectionModel("yolov8n.yaml", ch=1, verbose=False)}, tmp_path / "grey.pt")
    with pytest.raises(UnsupportedModelError, match="1 channels"):
        read_checkpoint(tmp_path / "grey.pt", None)


@pytest.mark.parametrize("imgsz", [0, -32, 100_000, [320, 320, 320], "large"])
def test_an_impossible_input_size_is_refused(weights: Path, imgsz: object) -> None:
    with pytest.raises(WeightsInvalidError, match=r"input size|invalid literal"):
        read_checkpoint(weights, imgsz)  # type: ignore[arg-type]


def test_a_name_that_the_library_would_look_up_elsewhere_is_refused(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "yolov5n.pt"
    path.write_bytes(weights.read_bytes())
    with pytest.raises(WeightsInvalidError, match="rename this file"):
        read_checkpoint(path, None)
