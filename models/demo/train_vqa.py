"""Train `shapes-vqa` from nothing: draw the pictures, learn to see, learn to answer, measure on scenes never seen.

    python -m models.demo.train_vqa

Uses no network. Two CPU cores are enough; a GPU is used where there is one. Every random choice is seeded.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

from models.demo.vqa_architecture import save
from models.demo.vqa_card import Measured, write_card
from models.demo.vqa_dataset import (
    TEST_SEEDS,
    TRAIN_SEEDS,
    VAL_SEEDS,
    Pictures,
    draw_pictures,
    keep_pictures,
    kept_pictures,
)
from models.demo.vqa_measure import Accuracy, measure
from models.demo.vqa_training import Recipe, Training, quick_accuracy

FOLDER = Path(__file__).with_name("shapes-vqa")
_REPORT_STEPS, _SAVE_STEPS = 50, 250
#: How many times larger the second set of held-out scenes is drawn: the pictures that people send are not small.
ENLARGEMENT = 3


def _draw(work: Path, first_seed: int, count: int) -> Pictures:
    """Draw them, or take those that an earlier run in this folder has drawn."""
    path = work / f"pictures-{first_seed}-{count}.npz"
    if not path.is_file():
        keep_pictures(path, draw_pictures(first_seed, count))
    return kept_pictures(path)


def _run(training: Training, held_out: Pictures, checkpoint: Path, folder: Path) -> None:
    """Make all steps that are left; the folder holds weights that can be used from the first answers on."""
    phases = training.recipe.phases
    while not training.is_done:
        phase, started = training.phase, time.process_time()
        losses = training.advance()
        step = training.step or phases[phase].steps
        if step % _REPORT_STEPS == 0:
            shown = " ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
            print(
                f"phase {phase + 1} step {step}: {shown} ({time.process_time() - started:.2f} s)", flush=True
            )
        if step % _SAVE_STEPS == 0 or training.is_done:
            training.save(checkpoint)
            if phases[phase].answers:
                accuracy = quick_accuracy(training.network, held_out, training.recipe.seed, training.device)
                print(f"phase {phase + 1} step {step}: {json.dumps(accuracy)}", flush=True)
                save(training.network, folder)


def _machine(num_threads: int) -> str:
    import torch

    if torch.cuda.is_available():
        return f"one {torch.cuda.get_device_name()}"
    threads = "one thread" if num_threads == 1 else f"{num_threads} threads"
    return f"{threads} of a shared x86-64 server processor ({torch.backends.cpu.get_cpu_capability()})"


def _measure(recipe: Recipe, folder: Path, device: str) -> tuple[Accuracy, Accuracy]:
    """On held-out scenes drawn as small as those trained on, and on others drawn larger."""
    small = draw_pictures(TEST_SEEDS, recipe.num_test)
    large = draw_pictures(TEST_SEEDS + recipe.num_test, recipe.num_test // 4, enlargement=ENLARGEMENT)
    return measure(folder, small, recipe.seed, device), measure(folder, large, recipe.seed, device)


def train(recipe: Recipe, work: Path, folder: Path, num_threads: int) -> Measured:
    """Run the whole recipe inside `work`, going on where an earlier run there stopped, and write `folder`."""
    import torch
    import transformers

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(num_threads)
    started = time.monotonic()
    pictures = _draw(work, TRAIN_SEEDS, recipe.num_train)
    held_out = _draw(work, VAL_SEEDS, recipe.num_val)
    drawn = time.monotonic()
    print(f"{len(pictures.things)} pictures drawn in {drawn - started:.0f} s", flush=True)
    training, checkpoint = Training(recipe, pictures, device), work / "checkpoint.pt"
    if checkpoint.is_file():
        training.restore(checkpoint)
    _run(training, held_out, checkpoint, folder)
    save(training.network, folder)
    small, large = _measure(recipe, folder, device)
    return Measured(
        small, large, ENLARGEMENT, (recipe.num_test, recipe.num_test // 4),
        num_parameters=sum(weight.numel() for weight in training.network.parameters()),
        num_bytes=sum(path.stat().st_size for path in folder.iterdir()),
        draw_seconds=drawn - started, train_seconds=training.seconds, machine=_machine(num_threads),
        versions=f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}",
    )  # fmt: skip


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.demo.train_vqa", description="Train shapes-vqa.")
    parser.add_argument(
        "--work-dir",
        type=Path,
        help="keep the checkpoint here and resume from it (default: a temporary folder)",
    )
    parser.add_argument(
        "--output", type=Path, default=FOLDER, help="folder of weights to write; the card lies beside it"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--num-train", type=int, default=Recipe.num_train, help="pictures to train on")
    parser.add_argument("--steps", type=int, nargs="+", help="steps of each phase, instead of the recipe's")
    return parser.parse_args()


def main() -> None:
    """The command: weights, card, and one JSON line with what was measured."""
    options = _options()
    recipe = replace(Recipe(), num_train=options.num_train)
    if options.steps:
        pairs = zip(recipe.phases, options.steps, strict=True)
        recipe = replace(recipe, phases=tuple(replace(phase, steps=steps) for phase, steps in pairs))
    with tempfile.TemporaryDirectory(prefix="shapes-vqa-") as temporary:
        work = (options.work_dir or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        measured = train(recipe, work, options.output, options.threads)
    write_card(options.output.with_suffix(".md"), measured, recipe)
    print(json.dumps(asdict(measured)))


if __name__ == "__main__":
    main()
