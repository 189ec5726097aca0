from __future__ import annotations

from models.runtimes.widening import Widening


def num_wide(widening: Widening, wide: float, num_images: int, narrow: float = 1.0) -> int:
    """How many of `num_images` run on all cores, where such a run takes `wide` seconds."""
    count = 0
    for _ in range(num_images):
        if widening.is_worth_it():
            widening.observe_wide(wide)
            count += 1
        else:
            widening.observe_narrow(narrow)
    return count


def test_while_it_is_faster_every_image_that_is_alone_gets_all_cores() -> None:
    widening = Widening()
    widening.observe_narrow(1.0)
    assert num_wide(widening, 0.5, 50) == 50


def test_where_it_is_slower_it_is_tried_ever_more_seldom() -> None:
    widening = Widening()
    widening.observe_narrow(1.0)
    assert 5 <= num_wide(widening, 2.0, 300) <= 8
    assert num_wide(widening, 2.0, 1000) <= 5


def test_once_it_is_faster_again_every_image_gets_all_cores() -> None:
    widening = Widening()
    widening.observe_narrow(1.0)
    num_wide(widening, 2.0, 100)
    num_wide(widening, 0.5, 300)
    assert num_wide(widening, 0.5, 20) == 20


def test_what_it_is_held_against_follows_the_machine() -> None:
    widening = Widening()
    widening.observe_narrow(1.0)
    for _ in range(30):
        widening.observe_narrow(4.0)
    assert num_wide(widening, 2.0, 20) == 20
