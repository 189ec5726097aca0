"""The model card of `shapes-detect`, written from what its training run measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from string import Template

from models.demo.backgrounds import BACKGROUNDS
from models.demo.colours import COLOURS
from models.demo.scenes import TEST_SEEDS, TRAIN_SEEDS, VAL_SEEDS, SceneSettings
from models.demo.shapes import SHAPES


@dataclass(frozen=True)
class Measured:
    """What one training run measured. mAP is on the test split; `num_objects` counts the drawn shapes per split.

    `map50_95_at` holds mAP50-95 at input sizes other than the one trained for, by size in pixels.
    """

    map50: float
    map50_95: float
    per_class: dict[str, float]
    map50_95_at: dict[int, float]
    num_images: dict[str, int]
    num_objects: dict[str, int]
    num_parameters: int
    num_bytes: int
    draw_seconds: float
    train_seconds: float
    machine: str
    versions: str


_CARD = Template("""\
# shapes-detect

A small YOLO detector that ships with the engine, so that a fresh install answers real questions without downloading
anything. It finds coloured shapes in synthetic scenes. It is a demonstration, not a general detector: on photographs
it means nothing.

| | |
|---|---|
| task | detect |
| classes, in the order of their ids | $classes |
| input | $size x $size pixels, letterboxed, RGB |
| architecture | YOLOv8 layout, depth 0.33, width 0.125 (half of the nano size), `reg_max` 8; $parameters parameters |
| file | `$file`, half precision, $bytes bytes |
| held-out mAP50 | **$map50** |
| held-out mAP50-95 | **$map50_95** |
| licence | AGPL-3.0-or-later, as the library that trained it |

mAP50-95 by class:

$per_class

Measured on $num_test scenes ($test_objects shapes) that were neither trained on nor used to choose the weights, from
the shipped half-precision file, square letterbox at $size, with the ultralytics validator's defaults (confidence from
0.001, non-maximum suppression at IoU 0.7).

## Pictures

All drawn by `scenes.py`; no photograph and nobody's picture is in them. Each scene has $min_objects to $max_objects
shapes in one of $num_colours named colours ($colours), turned at random, with a diameter between $min_extent and
$max_extent of the picture's shorter side, on a background of one of $num_backgrounds kinds ($backgrounds).
Some overlap or reach past the border, at least $min_visible of each stays visible. Some have a shadow, a shaded fill
or a darker edge; pictures have grain, soft focus and JPEG quality $low_quality to $high_quality at random. Boxes are
exact: the extent of the pixels that a shape covers by at least half and that no other shape covers.

| split | scenes | shapes | seeds from |
|---|---|---|---|
| train | $num_train | $train_objects | $train_seeds |
| val (chooses the epoch) | $num_val | $val_objects | $val_seeds |
| test | $num_test | $test_objects | $test_seeds |

The class is the shape alone; colour is varied further while training (hue, saturation, brightness, red and blue
exchanged), so that it says nothing about the class.

## Recipe

From random weights, AdamW with a cosine schedule, batch $batch, seed $seed, in phases of growing input size:

$phases

Augmentation: `$augmentation`.
Mosaic, turning and shifting stay off because they cut shapes and loosen boxes that the drawing made exact; the scenes
vary in those ways themselves.

Took $draw_minutes minutes to draw and $train_minutes minutes to train on $machine.
Versions: $versions.

## Limits

- Only these classes, filled, in flat or gently shaded colours. A shape that looks like none of them (a pentagon, an
  oval) gets the nearest name or none.
- Made for an input of $size pixels. Served at another size it finds less: $other_sizes.
- It never saw a shape with a diameter below about 19 pixels at that size, nor above half of the picture's shorter
  side.
- Strong blur, low contrast with the background and overlaps beyond a quarter of a shape are outside what it saw.
- A run on another processor or library version gives other weights of the same quality, not the same bytes.

## Train it again

    python -m models.demo.train_detect

needs the project's own dependencies and no network. It takes the time above on two shared CPU cores (both draw, one
trains); a GPU is used where the library finds one, which has not been tried. The command
writes the weights and this page.
""")


def _table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def write_card(
    path: Path, measured: Measured, recipe: dict[str, str], phases: list[tuple[object, ...]]
) -> None:
    """Write the card. `recipe` holds size, batch, seed and augmentation; `phases` (input size, epochs, rate) each."""
    settings = SceneSettings()
    splits = {f"num_{split}": str(count) for split, count in measured.num_images.items()}
    objects = {f"{split}_objects": str(count) for split, count in measured.num_objects.items()}
    text = _CARD.substitute(
        recipe | splits | objects,
        file=path.with_suffix(".pt").name,
        classes=", ".join(SHAPES),
        parameters=f"{measured.num_parameters:,}",
        bytes=f"{measured.num_bytes:,}",
        map50=f"{measured.map50:.3f}",
        map50_95=f"{measured.map50_95:.3f}",
        other_sizes=", ".join(f"mAP50-95 {ap:.3f} at {size}" for size, ap in measured.map50_95_at.items()),
        per_class=_table(
            ("class", "mAP50-95"), [(name, f"{ap:.3f}") for name, ap in measured.per_class.items()]
        ),
        min_objects=settings.min_objects,
        max_objects=settings.max_objects,
        num_colours=len(COLOURS),
        colours=", ".join(COLOURS),
        min_extent=settings.min_extent,
        max_extent=settings.max_extent,
        min_visible=f"{settings.min_visible:.0%}",
        low_quality=settings.jpeg_qualities[0],
        high_quality=settings.jpeg_qualities[1],
        num_backgrounds=len(BACKGROUNDS),
        backgrounds=", ".join(BACKGROUNDS),
        train_seeds=TRAIN_SEEDS,
        val_seeds=VAL_SEEDS,
        test_seeds=TEST_SEEDS,
        phases=_table(("input", "epochs", "first learning rate"), phases),
        draw_minutes=f"{measured.draw_seconds / 60:.0f}",
        train_minutes=f"{measured.train_seconds / 60:.0f}",
        machine=measured.machine,
        versions=measured.versions,
    )
    path.write_text(text)
