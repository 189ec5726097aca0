from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from models.demo.questions import KINDS, Question  # noqa: E402
from models.demo.shapes import SHAPES  # noqa: E402
from models.demo.vqa_architecture import make_network, mask_cross_attention  # noqa: E402
from models.demo.vqa_auxiliary import make_heads, truth  # noqa: E402
from models.demo.vqa_dataset import Pictures, draw_pictures, pack  # noqa: E402
from models.demo.vqa_measure import ask_about  # noqa: E402
from models.demo.vqa_training import (  # noqa: E402
    Phase,
    Recipe,
    Training,
    answer_logits,
    draw_batch,
    draw_questions,
    normalise,
    quick_accuracy,
    sample_patches,
    step_losses,
)

TINY = replace(
    Recipe(), phases=(Phase(3, 8, 0.02, 0.01, answers=False), Phase(3, 8, 0.02, 0.01, answers=True))
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """So little work is slower on two, where others need them too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return draw_pictures(79_000_000, 16)


@pytest.fixture(scope="module")
def asked(pictures: Pictures) -> Sequence[Sequence[Question]]:
    return ask_about(pictures, 1)[:4]


def test_packed_questions_do_not_see_each_other(
    pictures: Pictures, asked: Sequence[Sequence[Question]]
) -> None:
    torch.manual_seed(1)
    network = make_network(sample_patches(pictures)).eval()
    mask_cross_attention(network)
    with torch.inference_mode():
        states = network.vision_model(normalise(pictures.pixels[:4], "cpu")).last_hidden_state
        packed = pack(asked)
        together = answer_logits(network, states, packed)
        for row, questions in enumerate(asked):
            for group, question in enumerate(questions, 1):
                alone = answer_logits(network, states[row : row + 1], pack([[question]]))[0]
                found = together[row][packed.answer_groups[row] == group]
                assert torch.allclose(found, alone, atol=1e-4), question


def test_a_resumed_run_goes_the_way_of_a_whole_one(pictures: Pictures, tmp_path: Path) -> None:
    whole, first = Training(TINY, pictures, "cpu"), Training(TINY, pictures, "cpu")
    for _ in range(4):
        whole.advance()
        first.advance()
    first.save(tmp_path / "checkpoint.pt")
    second = Training(TINY, pictures, "cpu")
    second.restore(tmp_path / "checkpoint.pt")
    while not whole.is_done:
        assert whole.advance() == pytest.approx(second.advance(), rel=1e-4)
    assert second.is_done
    for name, weight in whole.network.state_dict().items():
        assert torch.allclose(weight, second.network.state_dict()[name], atol=1e-4), name


def test_training_brings_the_losses_of_its_own_pictures_down(pictures: Pictures) -> None:
    recipe = replace(TINY, warmup_steps=5, phases=(Phase(14, 8, 0.02, 0.01, answers=True),))
    training = Training(recipe, pictures, "cpu")
    losses = []
    while not training.is_done:
        losses.append(training.advance())
    for name in ("answer", "colour", "place"):
        early, late = (np.mean([each[name] for each in part]) for part in (losses[:3], losses[-3:]))
        assert late < 0.9 * early, name


def test_the_first_phase_leaves_the_text_part_alone(pictures: Pictures) -> None:
    training = Training(TINY, pictures, "cpu")
    before = {name: weight.clone() for name, weight in training.network.state_dict().items()}
    training.advance()
    moved = {name for name, w in training.network.state_dict().items() if not torch.equal(w, before[name])}
    assert moved
    assert all(name.startswith("vision_model.") for name in moved)


def test_a_step_draws_the_same_batch_every_time(pictures: Pictures) -> None:
    one, two, other = (draw_batch(pictures, TINY, 1, step, "cpu") for step in (0, 0, 1))
    assert torch.equal(one.pixels, two.pixels)
    assert not torch.equal(one.pixels, other.pixels)
    assert one.packed is not None and two.packed is not None
    assert torch.equal(one.packed.question_ids, two.packed.question_ids)


def test_every_picture_gets_a_question_and_at_most_one_long_answer(pictures: Pictures) -> None:
    rng = np.random.default_rng(3)
    kinds = set()
    for seen in [(), *pictures.things] * 8:
        questions = draw_questions(rng, seen, 8)
        assert 1 <= len(questions) <= 9
        assert sum(question.kind == "caption" for question in questions) <= 1
        kinds |= {question.kind for question in questions}
    assert kinds == set(KINDS)


def test_the_truth_of_a_patch_sums_to_one(pictures: Pictures) -> None:
    known = truth(pictures.shares, pictures.things)
    for shares in (known.shapes, known.colours):
        assert torch.allclose(shares.sum(-1), torch.ones(()))
    assert known.totals.tolist() == [len(seen) for seen in pictures.things]
    for counts, seen in zip(known.counts, pictures.things, strict=True):
        shapes = [thing.shape for thing in seen]
        assert counts[: len(SHAPES)].tolist() == [min(shapes.count(shape), 3) for shape in SHAPES]
    assert (known.centres.sum(-1) <= known.totals).all()


def test_the_losses_are_finite_and_all_there(pictures: Pictures) -> None:
    batch = draw_batch(pictures, TINY, 1, 0, "cpu")
    network = make_network()
    mask_cross_attention(network)
    parts = step_losses(network, make_heads(), batch, 0.5)
    assert set(parts) == {"shape", "colour", "centre", "place", "total", "count", "answer"}
    assert all(torch.isfinite(part) for part in parts.values())


def test_quick_accuracy_tells_every_kind(pictures: Pictures) -> None:
    network = make_network().eval()
    mask_cross_attention(network)
    shares = quick_accuracy(network, pictures, 1, "cpu")
    assert set(shares) == set(KINDS)
    assert all(0 <= share < 0.5 for share in shares.values()), "random weights know nothing"
