"""What `jpeg_scaling` gains and what it costs: decode time and mAP50-95 of `shapes-detect`, with and without.

    python -m bench.scaling --scenes 200 --factors 2 4

The scenes of the detector's test split, drawn 2 or 4 times as large and saved as JPEG, go through the server's own
decoder into slots of 320 x 320 and through the model as shipped. The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

os.environ |= {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "ULTRALYTICS_SAFE_LOAD": "true"}
os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())

from bench.record import record
from models.catalogue import CATALOGUE, operator_entry
from models.demo.scenes import SIZES, TEST_SEEDS, Scene, SceneSettings, draw_scene
from models.demo.shapes import SHAPES
from models.spec import Spec
from pool.model import Model, Row
from server.decode import Decoder, ImageLimits

THRESHOLDS = np.arange(0.5, 1.0, 0.05)
OPTIONS = {"confidence": 0.001, "iou": 0.7, "max_detections": 300}
Array = npt.NDArray[Any]


@dataclass
class Matches:
    """Predictions of all scenes held against the truth; one row of `correct` per prediction, a column per threshold."""

    correct: list[Array] = field(default_factory=list)
    confidence: list[float] = field(default_factory=list)
    predicted: list[int] = field(default_factory=list)
    true: list[int] = field(default_factory=list)

    def add(self, predictions: Sequence[Any], scene: Scene) -> None:
        """One scene; its predictions come most confident first."""
        classes = [SHAPES.index(thing.shape) for thing in scene.objects]
        self.true += classes
        taken = np.zeros((len(THRESHOLDS), len(classes)), bool)
        for prediction in predictions:
            box, class_id = prediction["box"], prediction["class_id"]
            overlaps = np.array([
                _overlap(tuple(box.values()), thing.box) * (found == class_id)
                for thing, found in zip(scene.objects, classes, strict=True)
            ])  # fmt: skip
            hits = np.zeros(len(THRESHOLDS), bool)
            for row, threshold in enumerate(THRESHOLDS):
                free = np.where(taken[row], 0.0, overlaps)
                if len(free) and free.max() >= threshold:
                    hits[row] = taken[row, free.argmax()] = True
            self.correct.append(hits)
            self.confidence.append(prediction["confidence"])
            self.predicted.append(class_id)

    def mean_average_precision(self) -> float:
        """mAP50-95 as Ultralytics computes it from these."""
        from ultralytics.utils.metrics import ap_per_class

        arrays = (np.array(each) for each in (self.correct, self.confidence, self.predicted, self.true))
        return float(ap_per_class(*arrays)[5].mean())


def _overlap(one: Sequence[float], two: Sequence[float]) -> float:
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)]
    return shared / (sum(areas) - shared)


def measure(
    model: Model, spec: Spec, scenes: Sequence[tuple[Scene, bytes]], scaling: bool
) -> dict[str, float]:
    """Mean decode time in seconds and mAP50-95 over `scenes`."""
    decoder = Decoder(1, ImageLimits(), scaling)
    slot = np.zeros(spec.slot_shape, np.uint8)
    matches, seconds = Matches(), 0.0
    for scene, jpeg in scenes:
        started = time.thread_time()
        decoded = decoder.decode(slot, jpeg, spec.resize)
        seconds += time.thread_time() - started
        params = {"width": decoded.width, "height": decoded.height, **OPTIONS}
        answer = model.infer([Row(slot, params)]).fragments[0]
        if isinstance(answer, Exception):
            raise answer
        matches.add(json.loads(answer)["predictions"], scene)
    decoder.close()
    return {"decode_cpu_seconds": seconds / len(scenes), "map50_95": matches.mean_average_precision()}


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--factors", type=int, nargs="+", default=[2, 4])
    args = parser.parse_args()
    from models.answers import no_progress
    from models.yolo import load

    weights = Path(__file__).parent.parent / "models" / CATALOGUE["shapes-detect"].weights
    entry = operator_entry("shapes-detect", weights)
    model = load({**entry.to_config(), "max_batch_size": 1, "num_threads": 1}, "cpu", no_progress)
    figures = {}
    for factor in args.factors:
        settings = SceneSettings(sizes=tuple((width * factor, height * factor) for width, height in SIZES))
        drawn = [draw_scene(TEST_SEEDS + index, settings) for index in range(args.scenes)]
        scenes = [(scene, scene.jpeg()) for scene in drawn]
        spec = Spec.from_json(model.spec)
        figures[f"{factor}x"] = {
            name: measure(model, spec, scenes, scaling)
            for name, scaling in (("in_full", False), ("scaled", True))
        }
    print(json.dumps(record("scaling", vars(args), {"by_factor": figures})))
    return 0


if __name__ == "__main__":
    sys.exit(main())
