"""A network calibrated for int8, and what is said where there is none. Real networks; nncf where it is installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.answers import Pixels, no_progress
from models.errors import RuntimeUnavailableError
from models.quantisation import Quantisation
from models.runtimes import choice
from models.runtimes.network import Source
from models.runtimes.pictures import sample_pictures
from models.yolo import load
from tests.models.networks import PlainRow, save_yolo

SIDE = 96
needs_nncf = pytest.mark.skipif(
    importlib.util.find_spec("nncf") is None, reason="the extra int8 is not installed"
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_yolo(tmp_path_factory.mktemp("quantisation") / "random.pt", "yolov8n.yaml", SIDE)


@pytest.fixture
def config(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(choice, "MEASURE_SECONDS", 0.02)  # how fast it is, nobody asks here
    return {
        "model_id": "random", "source": "file", "weights": str(weights), "imgsz": SIDE, "max_batch_size": 2,
        "runtime": "auto", "precision": "int8", "converted_dir": str(tmp_path / "converted"),
    }  # fmt: skip


def pictures(quantisation: Quantisation) -> list[Pixels]:
    return sample_pictures(quantisation.traits.input_shape)


def test_int8_is_refused_until_it_is_calibrated_and_the_refusal_names_the_command(
    config: dict[str, Any],
) -> None:
    with pytest.raises(RuntimeUnavailableError, match="inference-engine quantize MODEL --images FOLDER"):
        load(config, "cpu", no_progress)


def test_without_nncf_the_extra_is_named_and_nothing_is_converted(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(RuntimeUnavailableError, match=r"pip install '\.\[int8\]'"):
        Quantisation(config, no_progress)
    assert not Path(config["converted_dir"]).exists()


def test_the_network_in_int8_has_a_key_of_its_own() -> None:
    source = Source(Path("a.pt"), "0" * 64)
    assert source.calibrated_facts() != source.facts()
    assert source.calibrated_facts() != Source(Path("a.pt"), "1" * 64).calibrated_facts()


@needs_nncf
def test_a_calibrated_network_is_served_in_int8_and_the_one_in_fp32_stays(config: dict[str, Any]) -> None:
    quantisation = Quantisation(config, no_progress)
    quantised = quantisation.run(pictures(quantisation), no_progress)
    assert quantised.num_pictures == quantised.num_compared == 4
    assert quantised.difference.num_candidates > 0  # how near is chance: random weights lose much in int8
    assert min(quantised.fp32_seconds, quantised.int8_seconds) > 0.0
    text = (quantised.folder / "network.xml").read_text()
    assert "FakeQuantize" in text
    model = load(config, "cpu", no_progress)
    assert (model.spec["runtime"], model.spec["precision"]) == ("openvino", "int8")
    row = PlainRow(
        np.full((SIDE, SIDE, 3), 50, np.uint8), {"width": SIDE, "height": SIDE, "confidence": 0.01}
    )
    (answer,) = model.infer([row]).fragments
    assert isinstance(answer, bytes)
    exact = load({**config, "runtime": "openvino", "precision": "fp32"}, "cpu", no_progress)
    assert exact.spec["precision"] == "fp32"  # the other entry is untouched


@needs_nncf
def test_there_is_nothing_to_calibrate_on_without_pictures(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="nothing to calibrate on"):
        Quantisation(config, no_progress).run([], no_progress)


@needs_nncf
def test_nncf_has_nothing_to_report_with() -> None:
    code = (
        "import sys, models.runtimes, nncf.telemetry.wrapper as wrapper\n"
        "assert 'pytest' not in sys.modules\n"  # there nncf reports nothing anyway
        "assert not isinstance(wrapper.telemetry, wrapper.NNCFTelemetry), wrapper.telemetry\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
