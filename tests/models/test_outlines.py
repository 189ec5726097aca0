from __future__ import annotations

from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import outlines
from models.outlines import joined


def contours(seed: int, size: int) -> list[Any]:
    """Outlines of a spotted picture, from one to dozens of them."""
    noise = np.random.default_rng(seed).normal(size=(size, size)).astype(np.float32)
    spots = (cv2.GaussianBlur(noise, (0, 0), 2.0) > 0.12).astype(np.uint8)
    found = cv2.findContours(spots, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    return [np.asarray(each).reshape(-1, 2) for each in found]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([12, 20, 60, 150]))
def test_outlines_are_joined_as_the_library_joins_them(seed: int, size: int) -> None:
    from ultralytics.data.converter import merge_multi_segment

    parts = contours(seed, size)
    if len(parts) > 1:
        np.testing.assert_array_equal(joined(parts), np.concatenate(merge_multi_segment(parts)))
    elif parts:
        np.testing.assert_array_equal(joined(parts), parts[0])


def test_single_points_are_joined_too() -> None:
    from ultralytics.data.converter import merge_multi_segment

    parts = [np.array([[x, y]]) for x, y in ((0, 0), (5, 5), (9, 1))]
    np.testing.assert_array_equal(joined(parts), np.concatenate(merge_multi_segment(parts)))


def test_of_outlines_with_too_many_points_the_longest_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = contours(0, 150)
    limit = max(len(one) * len(two) for one, two in pairwise(parts))
    monkeypatch.setattr(outlines, "MAX_POINT_PAIRS", limit - 1)
    assert joined(parts) is max(parts, key=len)
    monkeypatch.setattr(outlines, "MAX_POINT_PAIRS", limit)
    assert len(joined(parts)) > max(map(len, parts))
