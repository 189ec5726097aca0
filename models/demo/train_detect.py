"""Train `shapes-detect` from nothing: draw the pictures, train, measure on scenes never seen, write weights and card.

    python -m models.demo.train_detect

Uses no network. Two CPU cores are enough; the library takes a GPU where it finds one. Every random choice is seeded.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from models.demo.detect_architecture import ARCHITECTURE, INPUT_SIZE
from models.demo.detect_card import Measured, write_card
from models.demo.detect_dataset import write_index, write_split
from models.demo.scenes import TEST_SEEDS, TRAIN_SEEDS, VAL_SEEDS

WEIGHTS = Path(__file__).with_name("shapes-detect.pt")
LICENCE = "AGPL-3.0-or-later"


@dataclass(frozen=True)
class Phase:
    """One stretch of training: `size` is the side of the square input in pixels, rates are learning rates."""

    size: int
    epochs: int
    first_rate: float
    last_rate: float
    warmup_epochs: float


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, next to the code and the versions of the libraries.

    Small inputs first: they cost a third of the full size, and what a star looks like is learnt there as well. The
    last phase, at the size that is served, makes the boxes tight.
    """

    num_train: int = 6000
    num_val: int = 250
    num_test: int = 600
    batch: int = 16
    seed: int = 7
    phases: tuple[Phase, ...] = (
        Phase(192, 5, 3e-3, 6e-4, 1.0),
        Phase(256, 4, 2e-3, 3e-4, 0.2),
        Phase(INPUT_SIZE, 3, 1.2e-3, 1e-5, 0.2),
    )


#: Flips, colours and shrinking only: they keep a tight box tight, which turning, cutting and mosaics do not.
AUGMENTATION: dict[str, Any] = {
    "hsv_h": 0.5, "hsv_s": 0.5, "hsv_v": 0.35, "bgr": 0.3, "fliplr": 0.5, "flipud": 0.5,
    "degrees": 0.0, "translate": 0.0, "scale": (0.7, 1.0), "mosaic": 0.0, "close_mosaic": 0,
}  # fmt: skip


def seal(work: Path) -> None:
    """Settle the library's switches before its first import: no network, its settings in the work folder."""
    os.environ.update(
        YOLO_OFFLINE="true",
        YOLO_AUTOINSTALL="false",
        ULTRALYTICS_SAFE_LOAD="true",
        YOLO_CONFIG_DIR=str(work),
    )
    # The library looks for a plotting font even with plots off, and would ask the network; a file by that name ends
    # the search, and nothing reads it.
    (work / "Ultralytics").mkdir(parents=True, exist_ok=True)
    (work / "Ultralytics" / "Arial.ttf").touch()


def _train_phase(start: Path, phase: Phase, recipe: Recipe, index: Path, run: Path, num_threads: int) -> Path:
    import torch
    from ultralytics.models import YOLO

    model = YOLO(str(start), task="detect")
    # The library sets the number of threads by its own lights when it picks the device, so ours comes after that.
    model.add_callback("on_train_start", lambda trainer: torch.set_num_threads(num_threads))
    model.train(
        data=str(index), imgsz=phase.size, epochs=phase.epochs, batch=recipe.batch, nbs=recipe.batch,
        optimizer="AdamW", lr0=phase.first_rate, lrf=phase.last_rate / phase.first_rate, cos_lr=True,
        warmup_epochs=phase.warmup_epochs, warmup_bias_lr=0.0, weight_decay=0.01, momentum=0.9, seed=recipe.seed,
        deterministic=True, cache=False, workers=1, amp=False, plots=False, project=str(run.parent), name=run.name,
        exist_ok=True, **AUGMENTATION,
    )  # fmt: skip
    return run / "weights" / "best.pt"


def publish(checkpoint: Path, output: Path, task: str = "detect", size: int = INPUT_SIZE) -> int:
    """Write a training checkpoint as weights to ship: half precision, no optimiser, no path or name of any machine.

    The checkpoint is the run's own and is loaded with pickle. Returns the number of parameters.
    """
    import torch
    import ultralytics

    trained = torch.load(checkpoint, map_location="cpu", weights_only=False)
    model = (trained.get("ema") or trained["model"]).half().eval()
    model.args = {"task": task, "imgsz": size}
    model.criterion, model.pt_path = None, output.name
    model.yaml = {key: value for key, value in model.yaml.items() if key != "yaml_file"}
    for parameter in model.parameters():
        parameter.requires_grad = False
    kept = {"epoch": -1, "model": model, "train_args": dict(model.args), "license": LICENCE}
    torch.save(kept | {"ema": None, "optimizer": None, "version": ultralytics.__version__}, output)
    return sum(parameter.numel() for parameter in model.parameters())


def measure(weights: Path, index: Path, size: int, batch: int) -> tuple[float, float, dict[str, float]]:
    """mAP50, mAP50-95 and mAP50-95 by class on the test split, letterboxed to squares of `size` pixels."""
    from ultralytics.models import YOLO

    scores = YOLO(str(weights), task="detect").val(
        data=str(index), split="test", imgsz=size, batch=batch, rect=False, workers=0, plots=False,
        verbose=False, project=str(index.parent / "runs"), name="test", exist_ok=True,
    ).box  # fmt: skip
    names = YOLO(str(weights), task="detect").names
    return (
        float(scores.map50),
        float(scores.map),
        {names[int(c)]: float(scores.maps[c]) for c in scores.ap_class_index},
    )


def _machine(num_threads: int) -> str:
    import torch

    if torch.cuda.is_available():
        return f"one {torch.cuda.get_device_name()}"
    threads = "one thread" if num_threads == 1 else f"{num_threads} threads"
    return f"{threads} of a shared x86-64 server processor ({torch.backends.cpu.get_cpu_capability()})"


def train(recipe: Recipe, work: Path, output: Path, num_threads: int) -> Measured:
    """Run the whole recipe inside `work` and write `output`; each phase leaves weights there that can be used."""
    seal(work)
    started = time.monotonic()
    num_images = {"train": recipe.num_train, "val": recipe.num_val, "test": recipe.num_test}
    seeds = {"train": TRAIN_SEEDS, "val": VAL_SEEDS, "test": TEST_SEEDS}
    num_objects = {
        split: write_split(work, split, range(seeds[split], seeds[split] + count), num_processes=2)
        for split, count in num_images.items()
    }
    index = write_index(work)
    drawn = time.monotonic()
    checkpoint = work / "shapes-detect.yaml"
    checkpoint.write_text(json.dumps(ARCHITECTURE))  # JSON is YAML
    num_parameters = 0
    for number, phase in enumerate(recipe.phases, 1):
        run = work / "runs" / f"phase{number}"
        checkpoint = _train_phase(checkpoint, phase, recipe, index, run, num_threads)
        num_parameters = publish(checkpoint, output)
    trained = time.monotonic()
    map50, map50_95, per_class = measure(output, index, INPUT_SIZE, recipe.batch)
    elsewhere = {size: measure(output, index, size, recipe.batch)[1] for size in (256, 640)}

    import torch
    import ultralytics

    return Measured(
        map50, map50_95, per_class, elsewhere, num_images, num_objects, num_parameters, output.stat().st_size,
        draw_seconds=drawn - started, train_seconds=trained - drawn, machine=_machine(num_threads),
        versions=f"ultralytics {ultralytics.__version__}, torch {torch.__version__.split('+')[0]}",
    )  # fmt: skip


def describe(recipe: Recipe, measured: Measured, weights: Path) -> None:
    """Write the model card beside the weights."""
    facts = {
        "size": str(INPUT_SIZE),
        "batch": str(recipe.batch),
        "seed": str(recipe.seed),
        "augmentation": ", ".join(f"{name} {value}" for name, value in AUGMENTATION.items()),
    }
    phases: list[tuple[object, ...]] = [
        (phase.size, phase.epochs, phase.first_rate) for phase in recipe.phases
    ]
    write_card(weights.with_suffix(".md"), measured, facts, phases)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m models.demo.train_detect", description="Train shapes-detect."
    )
    parser.add_argument(
        "--work-dir", type=Path, help="keep pictures and runs here (default: a temporary folder)"
    )
    parser.add_argument(
        "--output", type=Path, default=WEIGHTS, help="weights to write; the card lies beside them"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; more help only on idle cores")
    parser.add_argument("--num-train", type=int, default=Recipe.num_train, help="pictures to train on")
    parser.add_argument(
        "--epochs",
        type=int,
        nargs="+",
        help="epochs of each phase, instead of the recipe's; fewer numbers, fewer phases",
    )
    return parser.parse_args()


def main() -> None:
    """The command: weights, card, and one JSON line with what was measured."""
    options = _options()
    recipe = replace(Recipe(), num_train=options.num_train)
    if options.epochs:
        pairs = zip(recipe.phases, options.epochs, strict=False)
        recipe = replace(recipe, phases=tuple(replace(phase, epochs=epochs) for phase, epochs in pairs))
    with tempfile.TemporaryDirectory(prefix="shapes-detect-") as temporary:
        work = (options.work_dir or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        measured = train(recipe, work, options.output, options.threads)
    describe(recipe, measured, options.output)
    print(json.dumps(asdict(measured)))


if __name__ == "__main__":
    main()
