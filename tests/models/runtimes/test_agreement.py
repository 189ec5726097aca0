from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.runtimes.agreement import CLOSE, SAME, compare
from models.traits import Traits

LABELS = ("a", "b", "c")
ANCHORS = Traits("Detect", "detect", "letterbox", LABELS, 100, 200, end2end=False)
SETS = Traits("v10Detect", "detect", "letterbox", LABELS, 100, 200, end2end=True)
CLASSES = Traits("Classify", "classify", "center_crop", LABELS, 100, 100, end2end=False)


def anchors() -> npt.NDArray[np.float32]:
    """Two images, 4 + 3 + 2 channels, 40 anchors."""
    rng = np.random.default_rng(1)
    raw = rng.uniform(0.1, 0.9, (2, 9, 40)).astype(np.float32)
    raw[:, :4] *= 100
    return raw


def boxes() -> npt.NDArray[np.float32]:
    raw = np.zeros((1, 60, 6), np.float32)
    raw[0, :, :4] = np.random.default_rng(2).uniform(0, 200, (60, 4))
    raw[0, :, 4] = np.linspace(0.9, 0.2, 60)
    raw[0, :, 5] = np.arange(60) % 3
    return raw


def test_equal_outputs_do_not_differ() -> None:
    for raw, traits in ((anchors(), ANCHORS), (boxes(), SETS), (np.eye(3, dtype=np.float32), CLASSES)):
        difference = compare(raw, raw.copy(), traits)
        assert difference.num_candidates > 0
        assert (difference.worst_confidence, difference.worst_place, difference.worst_rest) == (0, 0, 0)
        assert not difference.broken(SAME)


def test_places_confidences_and_the_rest_are_told_apart() -> None:
    for channel, name, size in (
        (0, "worst_place", 0.02 * 200),
        (4, "worst_confidence", 0.02),
        (8, "worst_rest", 0.1),
    ):
        other = anchors()
        other[:, channel] += size
        difference = compare(anchors(), other, ANCHORS)
        figures = {
            each
            for each in ("worst_place", "worst_confidence", "worst_rest")
            if getattr(difference, each) > 1e-6
        }
        assert figures == {name}
        assert name.replace("_", " ") in difference.broken(SAME)


def test_the_order_of_final_boxes_does_not_matter_but_their_class_does() -> None:
    raw = boxes()
    shuffled = raw[:, np.random.default_rng(3).permutation(60)]
    assert not compare(raw, shuffled, SETS).broken(SAME)
    other = raw.copy()
    other[0, :25, 5] = (other[0, :25, 5] + 1) % 3
    assert compare(raw, other, SETS).share_matched < 0.9
    assert "share matched" in compare(raw, other, SETS).broken(CLOSE)


def test_a_thing_that_moved_away_is_not_matched() -> None:
    other = anchors()
    other[0, 0] += 60
    assert compare(anchors(), other, ANCHORS).share_matched == 0.5


def test_what_is_not_a_number_is_beyond_every_bound() -> None:
    other = anchors()
    other[:] = np.nan
    assert compare(anchors(), other, ANCHORS).broken(CLOSE)
    prototypes = (np.ones((2, 4, 5, 5), np.float32), np.full((2, 4, 5, 5), np.nan, np.float32))
    assert compare((anchors(), prototypes[0]), (anchors(), prototypes[1]), ANCHORS).broken(CLOSE)
