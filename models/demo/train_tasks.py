"""Train small networks for segment, pose, obb and classify on the demo scenes: weights with meaning, for tests.

    python -m models.demo.train_tasks FOLDER

Starts from the weights of `shapes-detect`, so that only what the task adds is to be learnt. Uses no network; one CPU
core is enough. Writes TASK.pt, half precision, and measured.json into FOLDER. Every random choice is seeded.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.demo.scenes import TEST_SEEDS, TRAIN_SEEDS, VAL_SEEDS
from models.demo.shapes import SHAPES
from models.demo.task_architecture import (
    INPUT_SIZE,
    NEW_HEAD,
    NUM_CLASSIFY_LAYERS,
    NUM_KEPT_LAYERS,
    OLD_HEAD,
    architecture,
)
from models.demo.task_dataset import write_index, write_split
from models.demo.train_detect import AUGMENTATION, WEIGHTS, publish, seal


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, next to the code and the versions of the libraries."""

    num_train: int
    epochs: int
    first_rate: float = 5e-3
    size: int = INPUT_SIZE
    batch: int = 16
    seed: int = 7


RECIPES: dict[str, Recipe] = {
    "segment": Recipe(320, 4),
    "pose": Recipe(320, 5),
    "obb": Recipe(480, 5),
    "classify": Recipe(1000, 4, size=96),
}
_NUM_VAL, _NUM_TEST = 32, 200

#: What finds the shapes is as good as it was; only what the task adds is learnt, and how boxes lie if they are turned.
_FROZEN: dict[str, list[int | str]] = {
    "segment": [*range(NUM_KEPT_LAYERS), "19.cv2", "19.cv3"],
    "pose": [*range(NUM_KEPT_LAYERS), "19.cv2", "19.cv3"],
    "obb": [*range(NUM_KEPT_LAYERS), "19.cv3"],
    "classify": [*range(NUM_CLASSIFY_LAYERS)],
}

#: A picture upside down has other keypoints; turned colours alone would do no harm anywhere.
_AUGMENTATION: dict[str, Any] = {**AUGMENTATION, "flipud": 0.0, "scale": 0.1}


def train(task: str, recipe: Recipe, work: Path, output: Path, num_threads: int) -> dict[str, Any]:
    """Draw, train and measure one task inside `work`; returns what was measured on scenes never seen."""
    started = time.monotonic()
    folder = work / task
    for split, first, count in (
        ("train", TRAIN_SEEDS, recipe.num_train),
        ("val", VAL_SEEDS, _NUM_VAL),
        ("test", TEST_SEEDS, _NUM_TEST),
    ):
        write_split(folder, task, split, range(first, first + count), num_processes=1)
    index = write_index(folder, task)
    drawn = time.monotonic()

    import torch
    from ultralytics.models import YOLO

    model = YOLO(str(_start(task, work)), task=task)
    # The library sets the number of threads by its own lights when it picks the device, so ours comes after that.
    model.add_callback("on_train_start", lambda trainer: torch.set_num_threads(num_threads))
    augmentation = {"scale": 0.2, "fliplr": 0.5, "erasing": 0.0, "auto_augment": None}
    model.train(
        data=str(index), imgsz=recipe.size, epochs=recipe.epochs, batch=recipe.batch, nbs=recipe.batch,
        optimizer="AdamW", lr0=recipe.first_rate, lrf=0.02, cos_lr=True, warmup_epochs=0.3, warmup_bias_lr=0.0,
        weight_decay=0.01, momentum=0.9, seed=recipe.seed, deterministic=True, cache=False, workers=0, amp=False,
        plots=False, val=False, freeze=_FROZEN[task], project=str(work / "runs"), name=task, exist_ok=True,
        verbose=False, **(augmentation if task == "classify" else _AUGMENTATION),
    )  # fmt: skip
    num_parameters = publish(work / "runs" / task / "weights" / "last.pt", output, task, recipe.size)
    trained = time.monotonic()
    return {
        **measure(task, recipe, output, index, work),
        "num_parameters": num_parameters,
        "num_bytes": output.stat().st_size,
        "draw_seconds": round(drawn - started, 1),
        "train_seconds": round(trained - drawn, 1),
    }


def _start(task: str, work: Path) -> Path:
    """The task's network with the weights of `shapes-detect` wherever they fit, as a checkpoint."""
    import torch
    from ultralytics.models import YOLO

    described, start = work / f"{task}.yaml", work / f"{task}-start.pt"
    described.write_text(json.dumps(architecture(task)))  # JSON is YAML
    torch.manual_seed(0)
    network: Any = YOLO(str(described), task=task).model
    trained: Any = YOLO(str(WEIGHTS)).model
    state, shapes = trained.float().state_dict(), network.state_dict()
    moved = {name.replace(OLD_HEAD, NEW_HEAD): value for name, value in state.items() if "dfl" not in name}
    fitting = {
        name: value for name, value in moved.items() if name in shapes and value.shape == shapes[name].shape
    }
    network.load_state_dict(fitting, strict=False)
    network.names = dict(enumerate(SHAPES))
    torch.save({"model": network}, start)
    return start


def measure(task: str, recipe: Recipe, weights: Path, index: Path, work: Path) -> dict[str, float]:
    """The library's own figures on the test split, letterboxed to squares."""
    from ultralytics.models import YOLO

    scores: Any = YOLO(str(weights), task=task).val(
        data=str(index), split="test", imgsz=recipe.size, batch=recipe.batch, rect=False, workers=0, plots=False,
        verbose=False, project=str(work / "runs"), name=f"{task}-test", exist_ok=True,
    )  # fmt: skip
    return {
        name: round(float(value), 4)
        for name, value in scores.results_dict.items()
        if "(" in name or "acc" in name
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m models.demo.train_tasks", description="Train small networks of each task."
    )
    parser.add_argument("folder", type=Path, help="where the weights are written")
    parser.add_argument("--tasks", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument(
        "--work-dir", type=Path, help="keep pictures and runs here (default: a temporary folder)"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--num-train", type=int, help="pictures to train on, instead of the recipe's")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    return parser.parse_args()


def main() -> None:
    """The command: weights, and what was measured as JSON."""
    options = _options()
    options.folder.mkdir(parents=True, exist_ok=True)
    report = options.folder / "measured.json"
    measured = json.loads(report.read_text()) if report.exists() else {}
    with tempfile.TemporaryDirectory(prefix="shapes-tasks-") as temporary:
        work = (options.work_dir or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        seal(work)
        for task in options.tasks:
            given = RECIPES[task]
            recipe = Recipe(
                options.num_train or given.num_train,
                options.epochs or given.epochs,
                given.first_rate,
                given.size,
            )
            output = options.folder / f"{task}.pt"
            measured[task] = train(task, recipe, work, output, options.threads)
            report.write_text(json.dumps(measured, indent=1) + "\n")
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
