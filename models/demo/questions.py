"""Questions about a scene and their answers, told from the scene's own list of objects and drawn from a seed.

Only what has one right answer is asked: "the star" is the only star there is, and nothing lies on the border between
"left" and "middle". Answers are lower case words and digits, as `shapes-vqa` gives them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.demo.colours import COLOURS
from models.demo.scenes import Scene
from models.demo.shapes import SHAPES

MIN_DISTANCE = 0.12  # between two shapes' centres before one is called left of, or above, the other
_LOW, _HIGH, _GAP = (
    0.4,
    0.6,
    0.03,
)  # a centre beyond these shares of the picture is left or right, top or bottom
_MIN_ORDER = 0.04  # between neighbours' centres in a caption, which names the shapes from left to right


@dataclass(frozen=True)
class Thing:
    """One shape as the questions see it: `x` and `y` of its centre as shares of the picture, from the top left."""

    shape: str
    colour: str
    x: float
    y: float


@dataclass(frozen=True)
class Question:
    """What is asked and what is right. `kind` is one of `KINDS`."""

    kind: str
    text: str
    answer: str


Things = Sequence[Thing]
Asked = tuple[str, str]  # text and answer


def things(scene: Scene) -> tuple[Thing, ...]:
    """The objects of a scene, in its order."""
    height, width = scene.image.shape[:2]
    return tuple(Thing(o.shape, o.colour, o.centre[0] / width, o.centre[1] / height) for o in scene.objects)


def plural(noun: str) -> str:
    """More than one of a shape: stars, crosses."""
    return noun + ("es" if noun.endswith("s") else "s")


def with_article(phrase: str) -> str:
    """The phrase after "a" or "an"."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _noun(rng: np.random.Generator) -> str:
    return _pick(rng, ("shape", "shape", "object", "thing"))


def _names(seen: Things) -> list[tuple[str, Thing]]:
    """Ways to say exactly one of them: by its shape if no other has it, else by colour and shape."""
    shapes = [thing.shape for thing in seen]
    pairs = [(thing.colour, thing.shape) for thing in seen]
    names = []
    for thing, pair in zip(seen, pairs, strict=True):
        if shapes.count(thing.shape) == 1:
            names.append((thing.shape, thing))
        if pairs.count(pair) == 1:
            names.append((" ".join(pair), thing))
    return names


def _colour(rng: np.random.Generator, seen: Things) -> Asked | None:
    shapes = [thing.shape for thing in seen]
    single = [thing for thing in seen if shapes.count(thing.shape) == 1]
    if not single:
        return None
    thing = single[int(rng.integers(len(single)))]
    word = _pick(rng, ("colour", "color"))
    text = _pick(
        rng,
        (
            f"what {word} is the {thing.shape}",
            f"which {word} is the {thing.shape}",
            f"what is the {word} of the {thing.shape}",
            f"what {word} does the {thing.shape} have",
        ),
    )
    return text, thing.colour


def _shape(rng: np.random.Generator, seen: Things) -> Asked | None:
    colours = [thing.colour for thing in seen]
    single = [thing for thing in seen if colours.count(thing.colour) == 1]
    if not single:
        return None
    thing = single[int(rng.integers(len(single)))]
    text = _pick(
        rng,
        (
            f"what shape is {thing.colour}",
            f"which shape is {thing.colour}",
            f"what is the {thing.colour} {_noun(rng)}",
            f"what is {thing.colour}",
        ),
    )
    return text, thing.shape


def _counted(rng: np.random.Generator, counts: dict[str, int]) -> tuple[str, int]:
    """One of the names. Every count that occurs is as likely as any other, or nearly all answers were 0."""
    values = sorted(set(counts.values()))
    value = values[int(rng.integers(len(values)))]
    return _pick(rng, [name for name, count in counts.items() if count == value]), value


def _count(rng: np.random.Generator, seen: Things) -> Asked | None:
    what = rng.choice(["all", "shape", "colour", "both"], p=[0.3, 0.35, 0.25, 0.1])
    if what == "all":
        named, value = plural(_noun(rng)), len(seen)
    elif what == "shape":
        name, value = _counted(rng, {s: sum(t.shape == s for t in seen) for s in SHAPES})
        named = plural(name)
    elif what == "colour":
        name, value = _counted(rng, {c: sum(t.colour == c for t in seen) for c in COLOURS})
        named = f"{name} {plural(_noun(rng))}"
    else:
        pairs = [f"{t.colour} {t.shape}" for t in seen] + [
            f"{_pick(rng, tuple(COLOURS))} {_pick(rng, SHAPES)}"
        ]
        name = _pick(rng, pairs)
        named, value = plural(name), sum(f"{t.colour} {t.shape}" == name for t in seen)
    text = _pick(
        rng,
        (
            f"how many {named} are there",
            f"how many {named} are in the picture",
            f"how many {named} do you see",
            f"how many {named} can you see",
            f"count the {named}",
        ),
    )
    return text, str(value)


def _present(rng: np.random.Generator, seen: Things, is_there: bool) -> tuple[str, str] | None:
    """A name and its plural of something that is, or is not, in the picture."""
    pairs = {(t.colour, t.shape) for t in seen}
    what = rng.choice(["shape", "colour", "both"], p=[0.45, 0.25, 0.3])
    if what == "shape":
        have = {t.shape for t in seen}
        options = [(s, plural(s)) for s in SHAPES if (s in have) == is_there]
    elif what == "colour":
        have, noun = {t.colour for t in seen}, _noun(rng)
        options = [(f"{c} {noun}", f"{c} {plural(noun)}") for c in COLOURS if (c in have) == is_there]
    elif is_there:
        options = [(f"{c} {s}", f"{c} {plural(s)}") for c, s in sorted(pairs)]
    else:  # the hard ones: right colour or right shape, wrong pair
        near = [(c, t.shape) for t in seen for c in COLOURS] + [(t.colour, s) for t in seen for s in SHAPES]
        options = [(f"{c} {s}", f"{c} {plural(s)}") for c, s in near if (c, s) not in pairs]
    return options[int(rng.integers(len(options)))] if options else None


def _presence(rng: np.random.Generator, seen: Things) -> Asked | None:
    is_there = bool(rng.random() < 0.5)
    name = _present(rng, seen, is_there)
    if name is None:
        return None
    one, many = with_article(name[0]), name[1]
    text = _pick(
        rng,
        (
            f"is there {one}",
            f"is there {one} in the picture",
            f"do you see {one}",
            f"can you see {one}",
            f"are there any {many}",
        ),
    )
    return text, "yes" if is_there else "no"


_RELATIONS: dict[str, tuple[tuple[str, ...], Callable[[Thing, Thing], float]]] = {
    "left": (("left of", "to the left of"), lambda one, two: two.x - one.x),
    "right": (("right of", "to the right of"), lambda one, two: one.x - two.x),
    "above": (("above", "over"), lambda one, two: two.y - one.y),
    "below": (("below", "under"), lambda one, two: one.y - two.y),
}


def _relation(rng: np.random.Generator, seen: Things) -> Asked | None:
    phrases, distance = _RELATIONS[_pick(rng, tuple(_RELATIONS))]
    names = _names(seen)
    pairs = [(one, two) for one in names for two in names if abs(distance(one[1], two[1])) >= MIN_DISTANCE]
    if not pairs:
        return None
    one, two = pairs[int(rng.integers(len(pairs)))]
    text = f"is the {one[0]} {_pick(rng, phrases)} the {two[0]}"
    return text, "yes" if distance(one[1], two[1]) > 0 else "no"


def _band(value: float, names: tuple[str, str]) -> str | None:
    """The first name, nothing or the second one for low, middle and high; None on the borders between them."""
    if min(abs(value - _LOW), abs(value - _HIGH)) < _GAP:
        return None
    return names[0] if value < _LOW else names[1] if value > _HIGH else ""


def place_name(thing: Thing) -> str | None:
    """Where in the picture: "top left", "top", "middle" and so on; None on the borders between them."""
    column, row = _band(thing.x, ("left", "right")), _band(thing.y, ("top", "bottom"))
    if column is None or row is None:
        return None
    return f"{row} {column}".strip() or "middle"


def _where(rng: np.random.Generator, seen: Things) -> Asked | None:
    placed = [(name, place) for name, thing in _names(seen) if (place := place_name(thing)) is not None]
    if not placed:
        return None
    name, place = placed[int(rng.integers(len(placed)))]
    text = _pick(
        rng, (f"where is the {name}", f"where in the picture is the {name}", f"where do you see the {name}")
    )
    return text, place


def caption(seen: Things) -> str | None:
    """All shapes from left to right; None where two are so close above one another that the order is unclear."""
    ordered = sorted(seen, key=lambda thing: thing.x)
    if not ordered or any(two.x - one.x < _MIN_ORDER for one, two in itertools.pairwise(ordered)):
        return None
    names = [with_article(f"{thing.colour} {thing.shape}") for thing in ordered]
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def _caption(rng: np.random.Generator, seen: Things) -> Asked | None:
    answer = caption(seen)
    if answer is None:
        return None
    texts = ("what is in the picture", "what is in the image", "what do you see", "describe the picture")
    return _pick(rng, texts), answer


_ASKERS: dict[str, Callable[[np.random.Generator, Things], Asked | None]] = {
    "colour": _colour,
    "shape": _shape,
    "count": _count,
    "presence": _presence,
    "relation": _relation,
    "where": _where,
    "caption": _caption,
}

KINDS: tuple[str, ...] = tuple(_ASKERS)


def ask(rng: np.random.Generator, kind: str, seen: Things) -> Question | None:
    """A question of this kind, or None where the picture allows none. One in eight lacks its question mark.

    Raises KeyError for a kind not in `KINDS`.
    """
    asked = _ASKERS[kind](rng, seen)
    if asked is None:
        return None
    mark = "" if asked[0].startswith(("count", "describe")) or rng.random() < 1 / 8 else "?"
    return Question(kind, asked[0] + mark, asked[1])


def ask_each_kind(scene: Scene, seed: int, times: int = 1) -> tuple[Question, ...]:
    """`times` questions of every kind that the scene allows, without repeats; the same on every run."""
    rng = np.random.default_rng(seed)
    seen = things(scene)
    found = [ask(rng, kind, seen) for kind in KINDS for _ in range(times)]
    return tuple(dict.fromkeys(question for question in found if question is not None))
