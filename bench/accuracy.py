"""What each runtime and precision costs in accuracy, on scenes that no weights were trained on.

    python -m bench.accuracy                            # writes models/accuracy.json, which `auto` reads
    python -m bench.accuracy --only "openvino fp32"     # one row anew
    python -m server.readme                             # and the README's table from it

The detector is `shapes-detect`, the scenes are the 600 of its card; int8 is calibrated on 128 that it was trained on.
JPEGs are decoded and resized by the front's code
and answered by the adapter's, as in a server. The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np

from bench.coarse import emulate
from bench.networks import Image
from bench.record import machine
from bench.scores import draw, mean_average_precision
from models.accuracy import Accuracy, points_lost, write

MODEL = "shapes-detect"
METRIC = "mAP50-95"
NUM_SCENES = 600
NUM_CALIBRATION_SCENES = 128


def decode(encoded: bytes, slot: Image) -> tuple[int, int]:
    """As the front decodes it into a slot."""
    from server.decode import ImageLimits
    from server.decode import decode as front_decode
    from server.resize import letterbox

    picture = front_decode(encoded, ImageLimits())
    letterbox(picture, slot)
    return picture.shape[1], picture.shape[0]


DECODERS: Mapping[str, Callable[[bytes, Image], tuple[int, int]]] = {"": decode}
"""By what a row says of its decoding; rows of another than the first are measured with PyTorch in fp32."""


def config(runtime: str, precision: str) -> dict[str, Any]:
    """What a worker would be told."""
    from models.catalogue import CATALOGUE

    return {**CATALOGUE[MODEL].to_config(), "runtime": runtime, "precision": precision}


def load(runtime: str, precision: str, **more: Any) -> Any:
    """The adapter with that runtime. Raises RuntimeUnavailableError, ValueError if it came to run otherwise."""
    from models.answers import no_progress
    from models.yolo import load as load_yolo

    model = load_yolo({**config(runtime, precision), **more}, "cpu", no_progress)
    if (model.spec["runtime"], model.spec["precision"]) != (runtime, precision):
        raise ValueError(f"{runtime} {precision}: {model.spec['runtime_reason']}")
    return model


def load_emulated(dtype: str) -> Any:
    """The adapter on PyTorch with imitated bfloat16 or float16, rounded the way OpenVINO and GPUs do."""
    model = load("torch", "fp32")
    emulate(model._runtime._network, dtype)
    return model


def load_calibrated() -> Any:
    """The adapter on int8, calibrated as `inference-engine quantize` does. Needs nncf."""
    from models.answers import no_progress
    from models.demo.scenes import TRAIN_SEEDS
    from models.quantisation import Quantisation

    with tempfile.TemporaryDirectory() as folder:
        quantisation = Quantisation({**config("openvino", "int8"), "converted_dir": folder}, no_progress)
        pictures = []
        for seed in range(TRAIN_SEEDS, TRAIN_SEEDS + NUM_CALIBRATION_SCENES):
            slot = np.empty((*quantisation.traits.input_shape, 3), np.uint8)
            decode(draw(seed).jpeg, slot)
            pictures.append(slot)
        quantisation.run(pictures, no_progress)
        return load("openvino", "int8", converted_dir=folder)


def cases() -> Mapping[str, Callable[[], tuple[Any, bool]]]:
    """Each pair's model, and whether it is emulated, by the pair's name."""
    from models.runtimes.wish import capabilities

    has_bf16 = "BF16" in capabilities()
    return {
        "torch fp32": lambda: (load("torch", "fp32"), False),
        "openvino fp32": lambda: (load("openvino", "fp32"), False),
        "openvino int8": lambda: (load_calibrated(), False),
        "openvino bf16": lambda: (
            load("openvino", "bf16") if has_bf16 else load_emulated("bfloat16"),
            not has_bf16,
        ),
        "torch fp16": lambda: (load_emulated("float16"), True),  # on a GPU; its own arithmetic is as coarse
    }


def main() -> None:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", help='rows, as "openvino fp32"')
    parser.add_argument("--scenes", type=int, default=NUM_SCENES)
    options = parser.parse_args()
    os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", ULTRALYTICS_SAFE_LOAD="true")
    from models.demo.scenes import TEST_SEEDS

    seeds = range(TEST_SEEDS, TEST_SEEDS + options.scenes)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as workers:
        scenes = list(workers.map(draw, seeds, chunksize=16))
    rows = []
    for name, make in cases().items():
        if options.only and name not in options.only:
            continue
        model, is_emulated = make()
        runtime, precision = name.split()
        for variant, fill in DECODERS.items():
            if variant and name != "torch fp32":
                continue
            row = partial(Accuracy, MODEL, runtime, precision, METRIC, variant=variant)
            score = mean_average_precision(model, scenes, fill)
            rows.append(row(score=round(score, 5), num_pictures=len(scenes), is_emulated=is_emulated))
            print(f"{name} {variant}: {score:.5f}", flush=True)
    write(described(), rows)
    losses = {" ".join(row.place[1:]).strip(): points_lost(row, rows) for row in rows}
    print(json.dumps({"bench": "accuracy", "rows": [asdict(row) for row in rows], "points_lost": losses}))


def described() -> str:
    """Machine and versions in a line."""
    found = machine()
    names = {"ultralytics": "ultralytics-opencv-headless"}
    versions = [
        f"{name} {version(names.get(name, name))}"
        for name in ("ultralytics", "torch", "transformers", "openvino")
    ]
    return f"{found['processor']}; {', '.join(versions)}; Python {found['python']}"


if __name__ == "__main__":
    main()
