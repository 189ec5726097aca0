"""What `shapes-vqa` learns from: scenes as small squares, and rows of questions packed side by side.

All questions about one picture lie in one row of tokens, so that the vision part runs once for all of them; masks
keep each question to itself.
"""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.demo.colours import COLOURS
from models.demo.questions import Question, Thing, things
from models.demo.scenes import Scene, SceneSettings, draw_scene
from models.demo.shapes import SHAPES
from models.demo.vqa_architecture import GRID, INPUT_SIZE, PATCH_SIZE, WORDS, make_tokenizer

if TYPE_CHECKING:
    import torch

#: First seeds of the sets, apart from each other and from the detector's.
TRAIN_SEEDS, VAL_SEEDS, TEST_SEEDS = 11_000_000, 12_000_000, 13_000_000

SIZES: tuple[tuple[int, int], ...] = ((240, 180), (180, 240), (200, 200), (240, 160))
MAX_OBJECTS = 5
MIN_EXTENT, MAX_EXTENT, MIN_VISIBLE = 0.22, 0.48, 0.85
PADDING, MAX_PADS, PADDED_SHARE = WORDS.index("[PAD]"), 6, 0.125
IGNORED = -100  # torch's own mark for a place without a target


def vqa_scene(seed: int, enlargement: int = 1) -> Scene:
    """The scene of this seed, its sides `enlargement` times those of `SIZES`.

    A scene takes its shapes and colours from a random handful: with all of them two shapes would hardly ever be alike
    and nothing could be counted.
    """
    rng = np.random.default_rng([seed, 1])
    num_shapes = int(rng.integers(2, len(SHAPES) + 1))
    num_colours = int(rng.integers(4, len(COLOURS) + 1))
    settings = SceneSettings(
        sizes=tuple((width * enlargement, height * enlargement) for width, height in SIZES),
        max_objects=MAX_OBJECTS,
        min_extent=MIN_EXTENT,
        max_extent=MAX_EXTENT,
        min_visible=MIN_VISIBLE,
        shapes=tuple(str(name) for name in rng.permutation(SHAPES)[:num_shapes]),
        colours=tuple(str(name) for name in rng.permutation(tuple(COLOURS))[:num_colours]),
    )
    return draw_scene(seed, settings)


@dataclass(frozen=True)
class Pictures:
    """Scenes ready to train on, in order of their seeds.

    `pixels` (n, size, size, 3) uint8 RGB, through JPEG and squashed to the input square; `shares` (n, rows, columns,
    1 + MAX_OBJECTS) uint8 the pixels of each patch that belong to the background and to each object; `things` what
    is in each.
    """

    pixels: NDArray[np.uint8]
    shares: NDArray[np.uint8]
    things: tuple[tuple[Thing, ...], ...]


def squash(scene: Scene) -> NDArray[np.uint8]:
    """The scene's JPEG file as the network sees it: (size, size, 3) uint8 RGB, bicubic, aspect ratio not kept."""
    with Image.open(io.BytesIO(scene.jpeg())) as picture:
        return np.asarray(picture.resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BICUBIC), np.uint8)


def _patch_shares(scene: Scene) -> NDArray[np.uint8]:
    small = Image.fromarray(scene.owner).resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.NEAREST)
    patches = np.asarray(small).reshape(GRID, PATCH_SIZE, GRID, PATCH_SIZE)
    owners = np.arange(1 + MAX_OBJECTS)[:, None, None, None, None]
    return np.asarray(np.moveaxis((patches == owners).sum(axis=(2, 4)), 0, -1), np.uint8)


def _picture(enlargement: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], tuple[Thing, ...]]:
    scene = vqa_scene(seed, enlargement)
    return squash(scene), _patch_shares(scene), things(scene)


def draw_pictures(first_seed: int, count: int, num_processes: int = 2, enlargement: int = 1) -> Pictures:
    """Draw the scenes of `count` seeds; takes about 30 ms of processor time each."""
    with ProcessPoolExecutor(num_processes) as workers:
        draw = functools.partial(_picture, enlargement)
        drawn = list(workers.map(draw, range(first_seed, first_seed + count), chunksize=16))
    pixels, shares, seen = zip(*drawn, strict=True)
    return Pictures(np.stack(pixels), np.stack(shares), tuple(seen))


def keep_pictures(path: Path, pictures: Pictures) -> None:
    """Write them to one file, for `kept_pictures`. Raises OSError where it cannot be written."""
    told = json.dumps([[astuple(thing) for thing in seen] for seen in pictures.things])
    with path.open("wb") as file:
        np.savez(file, pixels=pictures.pixels, shares=pictures.shares, things=np.array(told))


def kept_pictures(path: Path) -> Pictures:
    """What `keep_pictures` wrote. Raises OSError where there is no such file."""
    with np.load(path, allow_pickle=False) as kept:
        told = json.loads(str(kept["things"]))
        return Pictures(
            kept["pixels"], kept["shares"], tuple(tuple(Thing(*thing) for thing in seen) for seen in told)
        )


def turn_grid(grid: NDArray[Any], number: int) -> NDArray[Any]:
    """Pictures (n, rows, columns, ...) in one of the eight ways a square can be laid on itself; 0 leaves it."""
    if number & 4:
        grid = grid.swapaxes(1, 2)
    return grid[:, :: -1 if number & 2 else 1, :: -1 if number & 1 else 1]


def turn_thing(thing: Thing, number: int) -> Thing:
    """Where `turn_grid` moves a shape to."""
    x, y = (thing.y, thing.x) if number & 4 else (thing.x, thing.y)
    return Thing(thing.shape, thing.colour, 1 - x if number & 1 else x, 1 - y if number & 2 else y)


@dataclass(frozen=True)
class Packed:
    """Questions and answers of pictures, int64 tensors (pictures, tokens). Groups say whose token it is, 0 nobody's.

    `question_keys` are the groups again, but 0 for padding: the other tokens of its question do not look at it.

    `targets` are the answers' tokens one step ahead, `IGNORED` where there is none. Positions count from 0 in each
    question and each answer.
    """

    question_ids: torch.Tensor
    question_positions: torch.Tensor
    question_groups: torch.Tensor
    question_keys: torch.Tensor
    answer_ids: torch.Tensor
    answer_positions: torch.Tensor
    answer_groups: torch.Tensor
    targets: torch.Tensor


@functools.cache
def _tokenizer() -> Any:
    return make_tokenizer()


@functools.lru_cache(maxsize=200_000)
def _ids(text: str) -> tuple[int, ...]:
    return tuple(_tokenizer()(text)["input_ids"])


def _rows(rows: Sequence[Sequence[int]], padding: int) -> torch.Tensor:
    import torch

    table = np.full((len(rows), max(len(row) for row in rows)), padding, np.int64)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(table)


def pack(asked: Sequence[Sequence[Question]], rng: np.random.Generator | None = None) -> Packed:
    """The questions of each picture side by side. Every picture must have at least one.

    With `rng` some questions are padded as if they shared a batch with longer ones. The library's own `generate` lets
    the answer's decoder look at that padding, so the network had better be used to it.
    """
    columns: dict[str, list[list[int]]] = {}
    for questions in asked:
        row: dict[str, list[int]] = {name: [] for name in Packed.__dataclass_fields__}
        for group, question in enumerate(questions, 1):
            text, answer = _ids(question.text), _ids(question.answer)
            num_pads = (
                int(rng.integers(1, MAX_PADS + 1)) if rng is not None and rng.random() < PADDED_SHARE else 0
            )
            row["question_ids"] += [*text, *[PADDING] * num_pads]
            row["question_positions"] += range(len(text) + num_pads)
            row["question_groups"] += [group] * (len(text) + num_pads)
            row["question_keys"] += [group] * len(text) + [0] * num_pads
            row["answer_ids"] += answer[:-1]
            row["targets"] += answer[1:]
            row["answer_positions"] += range(len(answer) - 1)
            row["answer_groups"] += [group] * (len(answer) - 1)
        for name, values in row.items():
            columns.setdefault(name, []).append(values)
    return Packed(**{k: _rows(rows, IGNORED if k == "targets" else 0) for k, rows in columns.items()})
