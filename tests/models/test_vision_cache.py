from __future__ import annotations

import numpy as np
import pytest

from models.runtimes.blip_runtime import Floats
from models.vision_cache import VisionCache


def zeros(num_values: int) -> Floats:
    return np.zeros(num_values, np.float32)


def test_the_one_used_longest_ago_makes_room() -> None:
    cache = VisionCache(3 * 400)
    for key in "abc":
        cache.put(key, np.full(100, ord(key), np.float32))
    assert cache.get("a") is not None  # now b is the oldest
    cache.put("d", zeros(100))
    assert cache.get("b") is None
    assert [cache.get(key) is not None for key in "acd"] == [True, True, True]
    assert cache.get("a")[0] == ord("a")  # type: ignore[index]
    assert (len(cache), cache.num_bytes) == (3, 1200)


def test_a_large_one_takes_the_place_of_several_and_one_above_the_budget_of_none() -> None:
    cache = VisionCache(1000)
    cache.put("a", zeros(100))
    cache.put("b", zeros(100))
    cache.put("too large", zeros(251))
    assert (len(cache), cache.num_bytes) == (2, 800)
    cache.put("c", zeros(250))
    assert (len(cache), cache.num_bytes) == (1, 1000)
    cache.put("c", zeros(250))
    assert cache.num_bytes == 1000


@pytest.mark.parametrize("key", ["a", None])
def test_nothing_is_kept_without_a_budget_and_nothing_is_found_without_a_key(key: str | None) -> None:
    cache = VisionCache(0)
    cache.put("a", zeros(1))
    assert cache.get(key) is None
    assert len(cache) == 0
