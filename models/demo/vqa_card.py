"""The model card of `shapes-vqa`, written from what its training run measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from string import Template

from models.demo.backgrounds import BACKGROUNDS
from models.demo.colours import COLOURS
from models.demo.questions import KINDS, MIN_DISTANCE, ask_each_kind
from models.demo.shapes import SHAPES
from models.demo.vqa_architecture import (
    GRID,
    INPUT_SIZE,
    NUM_TEXT_LAYERS,
    NUM_VISION_LAYERS,
    PATCH_SIZE,
    WIDTH,
    WORDS,
)
from models.demo.vqa_dataset import (
    MAX_EXTENT,
    MAX_OBJECTS,
    MIN_EXTENT,
    MIN_VISIBLE,
    SIZES,
    TEST_SEEDS,
    TRAIN_SEEDS,
    VAL_SEEDS,
    vqa_scene,
)
from models.demo.vqa_measure import Accuracy
from models.demo.vqa_training import KIND_WEIGHTS, Recipe


@dataclass(frozen=True)
class Measured:
    """What one training run measured: `small` on scenes as large as those trained on, `large` on enlarged ones."""

    small: Accuracy
    large: Accuracy
    enlargement: int
    num_scenes: tuple[int, int]
    num_parameters: int
    num_bytes: int
    draw_seconds: float
    train_seconds: float
    machine: str
    versions: str


_CARD = Template("""\
# shapes-vqa

A small BLIP that ships with the engine, so that a fresh install answers real questions about a picture without
downloading anything. It knows synthetic scenes of coloured shapes and a few dozen words. It is a demonstration: on
photographs, and on questions of other kinds than those below, its answers mean nothing.

| | |
|---|---|
| task | vqa |
| architecture | `BlipForQuestionAnswering`: $vision vision layers over $grid x $grid patches, $text text layers in \
the question encoder and in the answer decoder each, width $width; $parameters parameters |
| input | $size x $size pixels, RGB, squashed to the square (bicubic), patches of $patch pixels |
| vocabulary | $words words, lower case; any other word becomes `[UNK]` |
| folder | `$folder`, half precision weights that load in single precision, $bytes bytes in all |
| held-out accuracy | **$overall** of $num_answers answers exactly right, captions not counted |
| licence | AGPL-3.0-or-later |

Share of exactly right answers by kind of question:

$by_kind

Measured on scenes that were neither trained on nor looked at while training, from the shipped folder with greedy
decoding. A caption is right only if every word is; $unordered of the captions ($large_unordered when drawn larger)
name the right shapes in some order. "Drawn larger" are $num_large other scenes with sides $enlargement times as
long, nearer to what people send.

## Questions

An example of each kind from one held-out scene:

$examples

The scene's own list of objects gives the answers. Only what has one right answer is asked: "the star" is the only
star in the picture (or "the red star" the only red one), two shapes are left or right, above or below one another
when their centres are at least $distance of the picture apart, and no shape asked for lies on the border between
"left" and "middle". Captions name the shapes from left to right. Both "colour" and "color" are understood, one
question in eight has no question mark, counts are digits. Where most answers would be alike (0 of most shapes), each
count that occurs is asked for equally often; half of the yes-no questions about presence are "yes".

## Pictures

Drawn by `scenes.py`; no photograph and nobody's picture is in them. Scenes of $sizes pixels with
1 to $max_objects shapes out of $num_shapes ($shapes) in $num_colours colours ($colours),
diameters of $min_extent to $max_extent of the shorter side, at least $min_visible of each visible, on $num_backgrounds
kinds of background, turned at random, with the shadows, grain, soft focus and JPEG quality of the detector's scenes.
Each scene takes its shapes and colours from a random handful, so that some are alike and can be counted.

| set | scenes | seeds from |
|---|---|---|
| train | $num_train | $train_seeds |
| watched while training | $num_val | $val_seeds |
| test | $num_test | $test_seeds |

## Recipe

From random weights, seed $seed, $num_questions fresh questions about each picture of a step; every picture is
laid on the square in all eight ways. Muon for the matrices, AdamW at $adam_share of its rate for the rest, cosine
schedules.

$phases

While training, two linear heads on the vision part are also taught, from the scene's own truth: of every patch the
shape and colour it shows and where that shape's centre is, of the whole picture how many shapes of each kind there
are. The heads are dropped; what is shipped is plain BLIP. Kinds are asked with weights $weights. One question in
eight is padded as in a batch with longer ones.

Took $draw_minutes minutes to draw and $train_minutes minutes to train on $machine. Versions: $versions.

## Limits

- Only these shapes, colours, words and kinds of question; it never says that it does not know.
- $hardest
- More than $max_objects shapes, shapes below about a fifth of the shorter side, and pictures more than half again
  as long as wide (the square squashes them) are outside what it saw.
- Near the border between two answers ("left", "top left") it may say either.
- A run on another processor or library version gives other weights of the same quality, not the same bytes.

## Train it again

    python -m models.demo.train_vqa

needs the packages of the `blip` runtime and no network. Two CPU cores do it in under two hours; a GPU is used where
there is one. The command writes the folder and this page.
""")


def _table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _examples() -> str:
    """Every kind, from the first test scene with three shapes that allows them all."""
    seed = TEST_SEEDS
    while True:
        scene = vqa_scene(seed)
        asked = ask_each_kind(scene, seed)
        if len(asked) == len(KINDS) and len(scene.objects) == 3:
            return _table(("kind", "question", "answer"), [(q.kind, q.text, q.answer) for q in asked])
        seed += 1


def _by_kind(measured: Measured) -> str:
    small, large = measured.small, measured.large
    rows: list[tuple[object, ...]] = [
        (kind, f"{small.by_kind[kind]:.3f}", small.num_by_kind[kind], f"{large.by_kind[kind]:.3f}")
        for kind in KINDS
    ]
    num_answers = sum(count for kind, count in small.num_by_kind.items() if kind != "caption")
    rows.append(("all but caption", f"{small.overall:.3f}", num_answers, f"{large.overall:.3f}"))
    return _table(("kind", "right", "questions", "right when drawn larger"), rows)


def _hardest(measured: Measured) -> str:
    kinds = sorted(
        (kind for kind in KINDS if kind != "caption"), key=lambda kind: measured.small.by_kind[kind]
    )
    worst = [f"{kind} ({1 - measured.small.by_kind[kind]:.0%} wrong)" for kind in kinds[:2]]
    return f"The kinds it is worst at are {worst[0]} and {worst[1]}; captions of many shapes often have a word wrong."


def _training(recipe: Recipe) -> dict[str, object]:
    rows: list[tuple[object, ...]] = [
        (
            "see and answer" if phase.answers else "see",
            phase.steps,
            phase.batch,
            phase.first_rate,
            phase.last_rate,
        )
        for phase in recipe.phases
    ]
    return {
        "num_train": recipe.num_train,
        "num_val": recipe.num_val,
        "train_seeds": TRAIN_SEEDS,
        "val_seeds": VAL_SEEDS,
        "test_seeds": TEST_SEEDS,
        "seed": recipe.seed,
        "num_questions": recipe.num_questions,
        "adam_share": recipe.adam_share,
        "phases": _table(("learns to", "steps", "pictures a step", "first rate", "last rate"), rows),
        "weights": ", ".join(f"{kind} {weight}" for kind, weight in KIND_WEIGHTS.items()),
    }


def _scenes() -> dict[str, object]:
    return {
        "sizes": ", ".join(f"{width} x {height}" for width, height in SIZES),
        "max_objects": MAX_OBJECTS,
        "num_shapes": len(SHAPES),
        "shapes": ", ".join(SHAPES),
        "num_colours": len(COLOURS),
        "colours": ", ".join(COLOURS),
        "min_extent": MIN_EXTENT,
        "max_extent": MAX_EXTENT,
        "min_visible": f"{MIN_VISIBLE:.0%}",
        "num_backgrounds": len(BACKGROUNDS),
        "distance": f"{MIN_DISTANCE:.0%}",
        "examples": _examples(),
    }


def _network(measured: Measured, folder: str) -> dict[str, object]:
    return {
        "vision": NUM_VISION_LAYERS,
        "text": NUM_TEXT_LAYERS,
        "grid": GRID,
        "width": WIDTH,
        "size": INPUT_SIZE,
        "patch": PATCH_SIZE,
        "words": len(WORDS),
        "parameters": f"{measured.num_parameters:,}",
        "bytes": f"{measured.num_bytes:,}",
        "folder": folder,
    }


def write_card(path: Path, measured: Measured, recipe: Recipe) -> None:
    """Write the card of the folder that lies beside `path`. Raises OSError where it cannot be written."""
    small, large = measured.small, measured.large
    text = _CARD.substitute(
        _training(recipe) | _scenes() | _network(measured, path.stem),
        by_kind=_by_kind(measured),
        overall=f"{small.overall:.3f}",
        num_answers=sum(count for kind, count in small.num_by_kind.items() if kind != "caption"),
        unordered=f"{small.unordered_captions:.3f}",
        large_unordered=f"{large.unordered_captions:.3f}",
        num_test=measured.num_scenes[0],
        num_large=measured.num_scenes[1],
        enlargement=measured.enlargement,
        hardest=_hardest(measured),
        draw_minutes=f"{measured.draw_seconds / 60:.0f}",
        train_minutes=f"{measured.train_seconds / 60:.0f}",
        machine=measured.machine,
        versions=measured.versions,
    )
    path.write_text(text, "utf-8")
