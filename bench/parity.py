"""How near our answers are to the library's: every family and task at full size, and the trained demo networks.

python -m bench.parity            # writes models/parity.json; then: python -m server.readme
python -m bench.parity --rows yolov8 yolov8-seg

Weights are random but spread (see bench.networks), or trained on the demo scenes. Pictures are put into the slot by
the front's own code; the library gets the picture itself, `rect=False`. Each picture is answered alone and in a
batch with all others, and the worst of both counts.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from bench.record import machine

ROOT = Path(__file__).resolve().parents[1]
TRAINED = ROOT / "tests" / "weights"
NUM_THREADS = 2
MAX_SAME_POINT = 0.02
"""Pixels by which each point of the same outline may differ: ours are rounded to hundredths, and to fill a small one
by pixels would make more of that than it is."""


@dataclass(frozen=True)
class Case:
    """One row: `architecture` is made with random weights, or `weights` are read. `confidence` is the threshold."""

    row: str
    architecture: str = ""
    weights: Path | None = None
    confidence: float = 0.5
    size: int = 640


@dataclass(frozen=True)
class PlainRow:
    """A row as `infer` wants it."""

    pixels: Any
    params: Mapping[str, Any]


CASES = (
    Case("yolov8", "yolov8n.yaml"),
    Case("yolov8-seg", "yolov8n-seg.yaml", confidence=0.7),
    Case("yolov8-pose", "yolov8n-pose.yaml"),
    Case("yolov8-obb", "yolov8n-obb.yaml", size=1024),
    Case("yolov8-cls", "yolov8n-cls.yaml", size=224),
    Case("yolo11", "yolo11n.yaml"),
    Case("yolo11-seg", "yolo11n-seg.yaml", confidence=0.7),
    Case("yolo11-pose", "yolo11n-pose.yaml"),
    Case("yolo11-obb", "yolo11n-obb.yaml", size=1024),
    Case("yolo11-cls", "yolo11n-cls.yaml", size=224),
    Case("yolo12", "yolo12n.yaml"),
    Case("yolo26", "yolo26n.yaml"),
    Case("yolo26-seg", "yolo26n-seg.yaml", confidence=0.5),
    Case("yolo26-pose", "yolo26n-pose.yaml"),
    Case("yolo26-obb", "yolo26n-obb.yaml", size=1024),
    Case("yolo26-cls", "yolo26n-cls.yaml", size=224),
    Case("yolov5u", "yolov5n.yaml"),
    Case("yolov9", "yolov9t.yaml"),
    Case("yolov9-seg", "yolov9c-seg.yaml", confidence=0.7),
    Case("yolov10", "yolov10n.yaml", confidence=0.3),
    Case("rtdetr", "rtdetr-l.yaml"),
    Case("shapes-detect", weights=ROOT / "models" / "demo" / "shapes-detect.pt", confidence=0.25, size=320),
    *(
        Case(f"trained {task}", weights=TRAINED / f"{task}.pt", confidence=0.25, size=192)
        for task in ("segment", "pose", "obb")
    ),
    Case("trained classify", weights=TRAINED / "classify.pt", size=96),
)


def pictures(trained: bool) -> list[Any]:
    """Pictures of different shapes, uint8 RGB: photographs, or scenes for networks that know only these."""
    if trained:
        from models.demo.scenes import TEST_SEEDS, draw_scene
        from models.demo.task_dataset import scene_settings

        return [draw_scene(TEST_SEEDS + index, scene_settings("obb")).image for index in range(8)]
    import cv2

    from bench.networks import photo

    small = np.asarray(cv2.resize(photo("bus.jpg"), (405, 540)), np.uint8)
    return [photo("bus.jpg"), photo("zidane.jpg")[:700, 300:1000], small]


def measure(case: Case, folder: Path) -> Any:
    """The `Parity` of one case. Raises AssertionError if an answer has no partner."""
    from bench.library import Library
    from bench.networks import save_yolo
    from models.answers import no_progress
    from models.catalogue import operator_entry
    from models.parity import Parity
    from models.spec import Spec
    from models.yolo import load
    from server.resize import RESIZES

    path = case.weights or save_yolo(folder / "random.pt", case.architecture, case.size)
    images = pictures(case.weights is not None)
    entry = operator_entry(case.row, path, imgsz=case.size)
    model = load(
        {**entry.to_config(), "max_batch_size": len(images), "num_threads": NUM_THREADS}, "cpu", no_progress
    )
    spec, library = Spec.from_json(model.spec), Library(path)
    rows = []
    for image in images:
        pixels = np.empty(spec.slot_shape, np.uint8)
        RESIZES[spec.resize](image, pixels)
        rows.append(
            PlainRow(
                pixels, {"width": image.shape[1], "height": image.shape[0], "confidence": case.confidence}
            )
        )
    alone = [_answer(model, [row])[0] for row in rows]
    together = _answer(model, rows)
    seen = Differences()
    for index, image in enumerate(images):
        expected = _expected(library.results(image, imgsz=case.size, conf=case.confidence), spec.task)
        if spec.resize == "stretch":
            expected = [_clipped(each, image.shape[:2]) for each in expected]
        for found in (alone[index], together[index]):
            seen.compare(found, expected, image.shape[:2])
    return Parity(
        model=Path(case.architecture).stem or path.stem,
        weights="trained" if case.weights else "random",
        num_compared=seen.num_compared,
        worst_iou=seen.iou,
        worst_confidence=seen.confidence,
        worst_distance=seen.distance,
    )


def _answer(model: Any, rows: Sequence[PlainRow]) -> list[list[dict[str, Any]]]:
    answers = [orjson.loads(fragment) for fragment in model.infer(rows).fragments]
    return [answer["top"] if "top" in answer else answer["predictions"] for answer in answers]


def _expected(result: Any, task: str) -> list[dict[str, Any]]:
    """The library's answer in our words."""
    from bench.library import boxes

    if task == "classify":
        best = zip(result.probs.top5, result.probs.top5conf.tolist(), strict=True)
        return [{"class_id": number, "confidence": confidence} for number, confidence in best]
    expected = boxes(result.obb if task == "obb" else result.boxes)
    extra = {
        "segment": lambda: ("polygon", result.masks.xy),
        "pose": lambda: ("points", result.keypoints.xy.tolist()),
        "obb": lambda: ("points", result.obb.xyxyxyxy.tolist()),
    }
    if expected and task in extra:
        name, values = extra[task]()
        for each, value in zip(expected, values, strict=True):
            each[name] = value
    return expected


def _clipped(prediction: dict[str, Any], shape: tuple[int, int]) -> dict[str, Any]:
    """The library clips the boxes of every network but RT-DETR to the picture; the engine clips those too."""
    ends = {"x1": shape[1], "x2": shape[1], "y1": shape[0], "y2": shape[0]}
    box = {name: min(max(value, 0.0), ends[name]) for name, value in prediction["box"].items()}
    return {**prediction, "box": box}


class Differences:
    """The worst of all that was compared."""

    def __init__(self) -> None:
        self.num_compared = 0
        self.confidence = 0.0
        self.iou: float | None = None
        self.distance: float | None = None

    def compare(
        self, found: list[dict[str, Any]], expected: list[dict[str, Any]], shape: tuple[int, int]
    ) -> None:
        """Each of `expected` with its nearest of the same class in `found`; none may be left over."""
        rest = list(found)
        assert len(found) == len(expected), f"{len(found)} answers, the library gives {len(expected)}"
        for each in expected:
            same_class = [one for one in rest if one["class_id"] == each["class_id"]]
            assert same_class, f"nothing like {each}"
            partner = min(same_class, key=lambda one: _apart(one, each))
            rest.remove(partner)
            self._note(partner, each, shape)

    def _note(self, one: dict[str, Any], two: dict[str, Any], shape: tuple[int, int]) -> None:
        from bench.library import overlap

        self.num_compared += 1
        self.confidence = max(self.confidence, abs(one["confidence"] - two["confidence"]))
        if "box" not in one:
            return
        distance = max(abs(one["box"][key] - two["box"][key]) for key in one["box"])
        if _area(two["box"]) > 0:  # boxes clipped away have corners only
            self._note_iou(overlap(one["box"], two["box"]))
        if "polygon" in two:
            self._note_iou(_overlap_of_outlines(one["polygon"], two["polygon"], shape))
        if "points" in two:
            points = one.get("corners") or [[point["x"], point["y"]] for point in one["keypoints"]]
            distance = max(distance, float(np.abs(np.subtract(points, two["points"])).max()))
        self.distance = max(self.distance or 0.0, distance)

    def _note_iou(self, iou: float) -> None:
        self.iou = iou if self.iou is None else min(self.iou, iou)


def _area(box: Mapping[str, float]) -> float:
    return (box["x2"] - box["x1"]) * (box["y2"] - box["y1"])


def _apart(one: Mapping[str, Any], two: Mapping[str, Any]) -> float:
    """Zero for the same; places in pixels count beside confidences."""
    places = sum(abs(one["box"][key] - two["box"][key]) for key in one["box"]) if "box" in one else 0.0
    return places + 100 * abs(one["confidence"] - two["confidence"])


def _overlap_of_outlines(one: Any, two: Any, shape: tuple[int, int]) -> float:
    import cv2

    if np.shape(one) == np.shape(two) and np.abs(np.subtract(one, two)).max() <= MAX_SAME_POINT:
        return 1.0
    filled = []
    for outline in (one, two):
        mask = np.zeros(shape, np.uint8)
        # Sixteenths of a pixel: points rounded to pixels jump by a whole one where they differ by a thousandth.
        points = (np.asarray(outline, np.float64) * 16).round().astype(np.int32)
        cv2.fillPoly(mask, [points], [1], shift=4)
        filled.append(mask)
    return float((filled[0] & filled[1]).sum()) / max(float((filled[0] | filled[1]).sum()), 1.0)


def _described() -> str:
    here = machine()
    packages = {name: version for name, version in here["packages"].items() if version}
    import torch
    import ultralytics

    packages |= {"torch": torch.__version__, "ultralytics": ultralytics.__version__}
    versions = ", ".join(
        f"{name} {packages[name]}" for name in ("ultralytics", "torch", "transformers", "numpy")
    )
    return f"{here['processor']}, CPU, fp32; {versions}; Python {here['python']}"


def main() -> None:
    """Measure and write the file; a row that cannot be measured is an error and nothing is written of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", choices=[case.row for case in CASES], help="only these")
    chosen = parser.parse_args().rows
    os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", ULTRALYTICS_SAFE_LOAD="true")
    from models.parity import write

    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            if chosen is None or case.row in chosen:
                figures[case.row] = parity = measure(case, Path(folder))
                print(
                    f"{case.row:18} {parity.num_compared:5} {parity}, {parity.worst_distance} px", flush=True
                )
                write(_described(), {case.row: parity})
    print(
        orjson.dumps({"bench": "parity", "rows": {row: str(each) for row, each in figures.items()}}).decode()
    )


if __name__ == "__main__":
    main()
