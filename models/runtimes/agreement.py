"""How far two raw outputs of one network lie apart, as far as it shows in answers. Without torch.

Compared are the most confident candidates of each image: boxes and classes in the tasks that have them, classes in
classification. What a head makes of a hundred thousand values that no answer ever shows does not count.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.runtimes.runtime import RawOutput
from models.traits import Traits

Floats = npt.NDArray[np.float32]
NUM_CANDIDATES = 50
"""Of each image."""
MIN_CONFIDENCE = 0.05
"""Below it nobody looks; where nothing is above it, the best candidate is compared."""
_MATCH_DISTANCE = 0.05
_TIE = 0.005
"""Confidences that are no further apart count as equal."""


@dataclass(frozen=True, slots=True)
class Difference:
    """`num_candidates` of the reference were looked for; `share_matched` of them were found, of the same class and at
    most a twentieth of the input's side away. The rest is about the matched ones: differences of confidence, of places
    as shares of the input's side, and `worst_rest` of all else (mask coefficients and prototypes, keypoints, angles)
    as a share of its largest value.
    """

    num_candidates: int
    share_matched: float
    mean_confidence: float
    worst_confidence: float
    mean_place: float
    worst_place: float
    worst_rest: float

    def within(self, bounds: Bounds) -> bool:
        """Whether none of the figures is beyond `bounds`."""
        return not self.broken(bounds)

    def broken(self, bounds: Bounds) -> str:
        """Which bounds do not hold, for operators; empty if all do."""
        limits = asdict(bounds)
        least = limits.pop("share_matched")
        wrong = [] if self.share_matched >= least else [f"share matched {self.share_matched:.4f} < {least}"]
        for name, limit in limits.items():
            if not getattr(self, name) <= limit:  # NaN is beyond any bound
                wrong.append(f"{name.replace('_', ' ')} {getattr(self, name):.2g} > {limit}")
        return ", ".join(wrong)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most of each figure of a Difference, of `share_matched` the least."""

    share_matched: float
    mean_confidence: float
    worst_confidence: float
    mean_place: float
    worst_place: float
    worst_rest: float


SAME = Bounds(
    share_matched=1.0,
    mean_confidence=5e-4,
    worst_confidence=5e-3,
    mean_place=5e-4,
    worst_place=5e-3,
    worst_rest=1e-2,
)
"""Of the same arithmetic in another order: what a converted network in fp32 must keep."""
CLOSE = Bounds(
    share_matched=0.97,
    mean_confidence=0.02,
    worst_confidence=0.2,
    mean_place=0.005,
    worst_place=0.05,
    worst_rest=0.25,
)
"""Of coarser arithmetic: what a network in bf16 or int8 must keep on the machine itself."""


def compare(reference: RawOutput, other: RawOutput, traits: Traits) -> Difference:
    """Both are raw outputs for the same images, float32 on the CPU."""
    ours, theirs = _first(reference), _first(other)
    pairs = [_pairs(*rows, traits) for rows in zip(ours, theirs, strict=True)]
    num_candidates = sum(count for count, _ in pairs)
    found = np.concatenate([each for _, each in pairs])
    rest = _relative(reference[1], other[1]) if isinstance(reference, tuple) else 0.0
    if not len(found):
        return Difference(num_candidates, 0.0, 0.0, 0.0, 0.0, 0.0, rest)
    mean, worst = found.mean(0), found.max(0)
    return Difference(
        num_candidates=num_candidates,
        share_matched=len(found) / num_candidates,
        mean_confidence=float(mean[0]),
        worst_confidence=float(worst[0]),
        mean_place=float(mean[1]),
        worst_place=float(worst[1]),
        worst_rest=max(rest, float(worst[2])),
    )


def _first(raw: RawOutput) -> Floats:
    return np.asarray(raw[0] if isinstance(raw, tuple) else raw)


def _pairs(ours: Floats, theirs: Floats, traits: Traits) -> tuple[int, Floats]:
    """How many candidates `ours` has, and for each that `theirs` has too (n, 3): differences of confidence, of place,
    of the rest."""
    if traits.task == "classify":
        best = np.argsort(-ours)[:5]
        apart = np.abs(ours[best] - theirs[best])
        return len(best), np.stack([apart, np.zeros_like(apart), np.zeros_like(apart)], 1)
    if traits.head == "RTDETRDecoder":
        return _pairs_of_sets(ours, theirs, 1.0)
    side = float(max(traits.input_shape))
    if traits.end2end:
        return _pairs_of_sets(ours, theirs, side)
    return _pairs_of_anchors(ours.T, theirs.T, len(traits.labels), side)


def _pairs_of_anchors(ours: Floats, theirs: Floats, num_classes: int, side: float) -> tuple[int, Floats]:
    """Rows are anchors: what was found at one of them is the same thing in both."""
    scores = ours[:, 4 : 4 + num_classes]
    picked = _picked(scores.max(1))
    classes = scores[picked].argmax(1)
    places = np.abs(ours[picked, :4] - theirs[picked, :4]).max(1) / side
    confidences = np.abs(scores[picked, classes] - theirs[picked, 4 + classes])
    rest = _relative_rows(ours[picked, 4 + num_classes :], theirs[picked, 4 + num_classes :])
    figures = np.stack([confidences, places, rest], 1)
    return len(picked), figures[places <= _MATCH_DISTANCE]


def _pairs_of_sets(ours: Floats, theirs: Floats, side: float) -> tuple[int, Floats]:
    """Rows are the best boxes in any order: four of place, confidence, class, the rest.

    Which of those that are as confident as the last are among the best is chance, so they are not looked for. Where all
    are, confidences alone are compared, by rank.
    """
    picked = ours[_picked(ours[:, 4])]
    picked = picked[picked[:, 4] > theirs[:, 4].min() + _TIE]
    if not len(picked):
        apart = np.abs(np.sort(ours[:, 4]) - np.sort(theirs[:, 4]))
        return len(apart), np.stack([apart, np.zeros_like(apart), np.zeros_like(apart)], 1)
    places = np.abs(picked[:, None, :4] - theirs[None, :, :4]).max(2) / side
    confidences = np.abs(picked[:, None, 4] - theirs[None, :, 4])
    is_near = (picked[:, None, 5] == theirs[None, :, 5]) & (places <= _MATCH_DISTANCE)
    # two boxes of a class may lie almost on each other: the partner is near in both ways
    distances = np.where(is_near, places + confidences, np.inf)
    partners = distances.argmin(1)
    rows = np.arange(len(picked))
    rest = _relative_rows(picked[:, 6:], theirs[partners, 6:])
    figures = np.stack([confidences[rows, partners], places[rows, partners], rest], 1)
    return len(picked), figures[is_near[rows, partners]]


def _picked(confidences: Floats) -> npt.NDArray[np.int64]:
    best = np.argsort(-confidences, kind="stable")[:NUM_CANDIDATES]
    above: npt.NDArray[np.int64] = best[confidences[best] >= MIN_CONFIDENCE]
    return above if len(above) else best[:1]


def _relative_rows(ours: Floats, theirs: Floats) -> Floats:
    """Each row's worst difference as a share of the largest value of all; zeros where there are no columns."""
    if not ours.size:
        return np.zeros(len(ours), np.float32)
    apart: Floats = np.abs(ours - theirs).max(1) / max(float(np.abs(ours).max()), 1e-6)
    return apart


def _relative(ours: Any, theirs: Any) -> float:
    return float(np.abs(ours - theirs).max() / max(float(np.abs(ours).max()), 1e-6))
