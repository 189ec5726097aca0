"""The answers are checked against the scene's objects by a second reading of the question's words, written apart from
the code that asks."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from models.demo.colours import COLOURS
from models.demo.questions import KINDS, Question, Thing, ask, ask_each_kind, caption, place_name, things
from models.demo.shapes import SHAPES
from models.demo.vqa_architecture import WORDS, make_tokenizer
from models.demo.vqa_dataset import vqa_scene

_FIRST_SEED = 77_000_000
_RELATIONS = {
    "left of": "left",
    "right of": "right",
    "above": "above",
    "over": "above",
    "below": "below",
    "under": "below",
}


@pytest.fixture(scope="module")
def asked() -> Sequence[tuple[tuple[Thing, ...], Question]]:
    scenes = [vqa_scene(seed) for seed in range(_FIRST_SEED, _FIRST_SEED + 60)]
    return [(things(scene), each) for scene in scenes for each in ask_each_kind(scene, scene.seed, times=4)]


def meant(text: str, seen: Sequence[Thing]) -> list[Thing]:
    """The things that a phrase like "red stars" or "blue" speaks of."""
    words = set(re.findall("[a-z]+", text))
    colours, shapes = (
        words & set(COLOURS),
        {shape for shape in SHAPES if {shape, shape + "s", shape + "es"} & words},
    )
    return [t for t in seen if t.colour in (colours or set(COLOURS)) and t.shape in (shapes or set(SHAPES))]


def the_only(text: str, seen: Sequence[Thing]) -> Thing:
    found = meant(text, seen)
    assert len(found) == 1, f"{text!r} could be {found}"
    return found[0]


def right_answer(question: Question, seen: Sequence[Thing]) -> str:
    text = question.text
    if question.kind == "colour":
        return the_only(text, seen).colour
    if question.kind == "shape":
        return the_only(text, seen).shape
    if question.kind == "count":
        return str(len(meant(text, seen)))
    if question.kind == "presence":
        return "yes" if meant(text, seen) else "no"
    if question.kind == "relation":
        phrase = next(phrase for phrase in _RELATIONS if f" {phrase} " in text)
        one, two = (the_only(part, seen) for part in text.split(phrase))
        holds = {
            "left": one.x < two.x,
            "right": one.x > two.x,
            "above": one.y < two.y,
            "below": one.y > two.y,
        }
        return "yes" if holds[_RELATIONS[phrase]] else "no"
    if question.kind == "where":
        thing = the_only(text, seen)
        row = "top" if thing.y < 0.4 else "bottom" if thing.y > 0.6 else ""
        column = "left" if thing.x < 0.4 else "right" if thing.x > 0.6 else ""
        return " ".join(filter(None, (row, column))) or "middle"
    ordered = sorted(seen, key=lambda thing: thing.x)
    names = [("an " if t.colour[0] in "aeiou" else "a ") + f"{t.colour} {t.shape}" for t in ordered]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def test_every_answer_is_right_by_the_scenes_own_objects(
    asked: Sequence[tuple[tuple[Thing, ...], Question]],
) -> None:
    for seen, question in asked:
        assert question.answer == right_answer(question, seen), (question, seen)


def test_the_same_seed_asks_the_same(asked: Sequence[tuple[tuple[Thing, ...], Question]]) -> None:
    scene = vqa_scene(_FIRST_SEED)
    assert ask_each_kind(scene, 5, times=3) == ask_each_kind(vqa_scene(_FIRST_SEED), 5, times=3)
    assert ask_each_kind(scene, 5, times=3) != ask_each_kind(scene, 6, times=3)


def test_every_kind_is_asked_in_several_ways(asked: Sequence[tuple[tuple[Thing, ...], Question]]) -> None:
    names = {*COLOURS, *SHAPES, *(shape + "s" for shape in SHAPES), "crosses"}
    ways = {(q.kind, " ".join("*" if word in names else word for word in q.text.split())) for _, q in asked}
    counts = Counter(kind for kind, _ in ways)
    assert set(counts) == set(KINDS)
    assert min(counts.values()) >= 3, counts
    assert {"colour", "color"} <= {word for _, way in ways for word in re.findall("[a-z]+", way)}


def test_yes_is_as_often_right_as_no(asked: Sequence[tuple[tuple[Thing, ...], Question]]) -> None:
    for kind in ("presence", "relation"):
        answers = Counter(question.answer for _, question in asked if question.kind == kind)
        assert set(answers) == {"yes", "no"}
        assert 0.35 < answers["yes"] / answers.total() < 0.65, (kind, answers)


def test_counts_are_not_mostly_zero(asked: Sequence[tuple[tuple[Thing, ...], Question]]) -> None:
    answers = Counter(question.answer for _, question in asked if question.kind == "count")
    assert answers["0"] / answers.total() < 0.4
    assert {"0", "1", "2", "3", "4", "5"} <= set(answers)


def test_the_network_knows_every_word_of_questions_and_answers(
    asked: Sequence[tuple[tuple[Thing, ...], Question]],
) -> None:
    tokenizer = make_tokenizer()
    for _, question in asked:
        for text in (question.text, question.answer):
            assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"], text
        assert (
            tokenizer.decode(tokenizer(question.answer)["input_ids"], skip_special_tokens=True)
            == question.answer
        )
        assert len(tokenizer(question.text)["input_ids"]) <= 20
        assert len(tokenizer(question.answer)["input_ids"]) <= 24
    assert len(set(WORDS)) == len(WORDS)


STAR, RING = Thing("star", "red", 0.2, 0.3), Thing("ring", "orange", 0.7, 0.5)


def test_nothing_is_asked_about_one_of_several_alike() -> None:
    rng = np.random.default_rng(1)
    twins = (STAR, Thing("star", "red", 0.8, 0.8))
    for kind in ("colour", "shape", "relation", "where"):
        assert all(ask(rng, kind, twins) is None for _ in range(50)), kind


def test_nothing_is_asked_about_places_near_a_border() -> None:
    assert place_name(STAR) == "top left"
    assert place_name(RING) == "right"
    assert place_name(Thing("star", "red", 0.5, 0.5)) == "middle"
    assert place_name(Thing("star", "red", 0.41, 0.5)) is None
    assert place_name(Thing("star", "red", 0.2, 0.58)) is None


def test_shapes_that_are_level_are_neither_above_nor_below() -> None:
    rng = np.random.default_rng(1)
    level = (STAR, Thing("ring", "blue", 0.7, 0.35))
    texts = [question.text for _ in range(200) if (question := ask(rng, "relation", level)) is not None]
    assert texts
    assert not any(re.search("above|over|below|under", text) for text in texts)


def test_a_caption_names_everything_from_left_to_right() -> None:
    assert caption((RING, STAR)) == "a red star and an orange ring"
    cross = Thing("cross", "blue", 0.5, 0.1)
    assert caption((RING, cross, STAR)) == "a red star, a blue cross and an orange ring"
    assert caption((STAR,)) == "a red star"
    assert caption((STAR, Thing("ring", "blue", 0.21, 0.9))) is None, "the order is unclear"
    assert caption(()) is None


def test_an_empty_picture_can_still_be_asked_about() -> None:
    rng = np.random.default_rng(2)
    for kind in KINDS:
        answers = {question.answer for _ in range(40) if (question := ask(rng, kind, ())) is not None}
        assert answers <= {"0", "no"}, kind


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(KeyError):
        ask(np.random.default_rng(0), "riddle", (STAR,))
