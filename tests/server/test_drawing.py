"""What is drawn lies where the answer says, at any size; the rest of the picture stays as it was."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from models.runs import run_length_text
from server.drawing import draw, draw_and_encode, encode, line_width_of
from server.errors import RequestFailedError
from server.labels import Labels
from server.lettering import font_of, wrapped
from server.palette import COLOURS, colour_of, contrast_to
from server.run_lengths import runs_of
from server.sketch import Sketch
from tests.server.images import Pixels, noise

SIZES = [(32, 32), (640, 480), (333, 1777), (2400, 1600)]
GREY = 128


def grey(width: int, height: int) -> Pixels:
    return np.full((height, width, 3), GREY, np.uint8)


def found(width: int, height: int, **more: Any) -> dict[str, Any]:
    """An object in the lower right of a picture."""
    box = {"x1": width * 0.4, "y1": height * 0.5, "x2": width * 0.9, "y2": height * 0.9}
    return {"label": "cat", "class_id": 3, "confidence": 0.5, "box": box, **more}


def drawn(width: int, height: int, *predictions: dict[str, Any]) -> Pixels:
    return np.asarray(draw(grey(width, height), {"predictions": list(predictions)}))


def is_colour(pixels: Pixels, class_id: int = 3) -> Any:
    return (pixels == colour_of(class_id)).all(-1)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_box_begins_and_ends_in_the_pixels_that_the_answer_names(width: int, height: int) -> None:
    pixels = drawn(width, height, found(width, height))
    assert pixels.shape == (height, width, 3)
    left, top, right, bottom = (
        int(width * 0.4), int(height * 0.5), int(width * 0.9 - 0.001), int(height * 0.9 - 0.001),
    )  # fmt: skip
    column, row = (left + right) // 2 + width // 8, (top + bottom) // 2 + height // 8
    line = line_width_of(width, height)
    across, down = is_colour(pixels[row]), is_colour(pixels[:, column])
    assert across[left] and across[right] and not across[:left].any() and not across[right + 1 :].any()
    assert down[bottom] and not down[bottom + 1 :].any()
    assert across.sum() == 2 * line, "two lines and nothing between them"
    assert (pixels[bottom + 1 :] == GREY).all()


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_turned_box_has_its_corners_where_the_answer_says(width: int, height: int) -> None:
    shares = [(0.5, 0.4), (0.9, 0.6), (0.6, 0.9), (0.2, 0.7)]
    corners = [[x * width, y * height] for x, y in shares]
    lines = is_colour(drawn(width, height, found(width, height, corners=corners)))
    reach = line_width_of(width, height) + 1
    for one, other in zip(corners, [*corners[1:], corners[0]], strict=True):
        for x, y in (one, other, [(one[0] + other[0]) / 2, (one[1] + other[1]) / 2]):
            near = lines[
                max(int(y) - reach, 0) : int(y) + reach + 1, max(int(x) - reach, 0) : int(x) + reach + 1
            ]
            assert near.any()
    assert not lines[int(height * 0.95) :].any() and not lines[int(height * 0.65) :, : int(width * 0.1)].any()


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("kind", ["polygon", "mask"])
def test_a_mask_is_half_transparent_inside_and_nothing_outside(kind: str, width: int, height: int) -> None:
    left, top, right, bottom = width // 2, height * 5 // 8, width * 3 // 4, height * 7 // 8
    if kind == "polygon":
        shape: Any = [[left, top], [right - 1, top], [right - 1, bottom - 1], [left, bottom - 1]]
    else:
        columns = np.arange(left, right)
        counts = run_length_text(columns * height + top, columns * height + bottom, width * height)
        shape = {"size": [height, width], "counts": counts}
    pixels = drawn(width, height, found(width, height, **{kind: shape}))
    bare = drawn(width, height, found(width, height))
    changed = (pixels != bare).any(-1)
    rows, columns = np.nonzero(changed)
    line = line_width_of(width, height) if kind == "polygon" else 0
    assert abs(int(columns.min()) - left) <= line and abs(int(columns.max()) - right + 1) <= line
    assert int(rows.max()) - bottom + 1 in range(line + 1)
    blend = [GREY // 2 + channel // 2 for channel in colour_of(3)]
    assert pixels[(top + bottom) // 2 + 1, (left + right) // 2].tolist() == blend


def test_the_likelier_mask_lies_on_top() -> None:
    whole = [[0, 0], [99, 0], [99, 99], [0, 99]]
    pixels = drawn(
        100, 100, found(100, 100, polygon=whole), {**found(100, 100, polygon=whole), "class_id": 4}
    )
    assert pixels[20, 80].tolist() == [GREY // 2 + channel // 2 for channel in colour_of(3)]


@pytest.mark.parametrize(("width", "height"), SIZES[1:])
@pytest.mark.parametrize("number", [4, 17])
def test_keypoints_are_where_the_answer_says_and_17_are_joined(number: int, width: int, height: int) -> None:
    places = [(width * (0.45 + 0.02 * n), height * (0.6 + 0.01 * n)) for n in range(number)]
    keypoints = [{"x": x, "y": y, "confidence": 0.9} for x, y in places]
    pixels = drawn(width, height, found(width, height, keypoints=keypoints))
    for x, y in places:
        assert pixels[int(y), int(x)].tolist() == [0, 0, 0], "a dark centre"
    x, y = (
        ((one + other) / 2 for one, other in zip(places[5], places[11], strict=True))
        if number == 17
        else (0, 0)
    )
    assert number == 4 or is_colour(pixels[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3]).any()


def test_a_keypoint_that_the_network_does_not_believe_in_is_left_out() -> None:
    keypoints = [{"x": 400, "y": 400, "confidence": 0.1}]
    assert (drawn(640, 480, found(640, 480, keypoints=keypoints)) == drawn(640, 480, found(640, 480))).all()


@pytest.mark.parametrize(("width", "height"), [(32, 32), (40, 500), (500, 20), (640, 480)])
def test_labels_stay_inside_wherever_their_boxes_are(width: int, height: int) -> None:
    labels = Labels(ImageDraw.Draw(Image.new("RGB", (width, height))), (width, height), font_of(14))
    places = []
    for left, top in (
        (-50, -50),
        (0, 0),
        (width - 2, height - 2),
        (width // 2, 3),
        (width + 90, height + 90),
    ):
        places.append(labels.add("a long label 0.98", (left, top, left + 40, top + 40), (9, 9, 9)))
    for place in filter(None, places):
        assert 0 <= place[0] < place[2] <= width and 0 <= place[1] < place[3] <= height
    assert any(places)


def test_labels_of_boxes_at_one_place_do_not_hide_each_other() -> None:
    labels = Labels(ImageDraw.Draw(Image.new("RGB", (400, 400))), (400, 400), font_of(14))
    places = {labels.add(f"label {n}", (100, 100, 200, 200), (9, 9, 9)) for n in range(4)}
    assert len(places) == 4


def test_text_is_seen_on_every_colour() -> None:
    for colour in COLOURS:
        assert abs(sum(contrast_to(colour)) - sum(colour)) > 250


@pytest.mark.parametrize(("width", "height"), [(1, 1), (32, 32), (640, 480), (16, 2000), (2000, 16)])
@pytest.mark.parametrize(
    "answer",
    [
        {"answer": "yes", "prompt": "is there a cat?"},
        {"answers": [{"prompt": f"question {n}?", "answer": "no " * 90} for n in range(16)]},
        {"caption": "w" * 3000},
        {"captions": [{"prompt": "", "caption": "a\ncat\x00\u202e"}]},
        {"top": [{"label": f"class {n}", "class_id": n, "confidence": 0.5} for n in range(5)]},
    ],
)
def test_words_stand_in_a_band_below_and_change_no_pixel_of_the_picture(
    answer: dict[str, Any], width: int, height: int
) -> None:
    picture = noise(width, height)
    pixels = np.asarray(draw(picture, answer))
    assert (pixels[:height, :width] == picture).all()
    band = pixels[height:]
    assert band.shape[1] == max(width, 240) and band.any()
    assert not band[:, :3].any() and not band[:, -2:].any() and not band[:2].any(), "a margin on all sides"
    assert len(band) <= max(height // 2, 240)


def test_a_long_text_is_wrapped_between_words_and_its_last_line_says_that_there_was_more() -> None:
    font = font_of(16)
    lines = wrapped("word " * 300, font, 200, 4)
    assert len(lines) == 4 and all(font.getlength(line) <= 200 for line in lines)
    assert lines[0].split() == ["word"] * len(lines[0].split()) and lines[3].endswith("...")
    assert wrapped("one two", font, 200, 4) == ["one two"]


def test_nothing_found_is_the_picture_as_it_was() -> None:
    picture = noise(50, 40)
    assert (np.asarray(draw(picture, {"predictions": []})) == picture).all()


@pytest.mark.parametrize("seed", range(3))
def test_run_lengths_are_read_as_they_were_written(seed: int) -> None:
    edges = np.unique(np.random.default_rng(seed).integers(0, 5_000_000, 2001))
    starts, ends = edges[: len(edges) // 2 * 2 : 2], edges[1 : len(edges) // 2 * 2 : 2]
    for begins, closes in ((starts, ends), (starts[:0], ends[:0]), (starts[:1], ends[:1])):
        read = runs_of(run_length_text(begins, closes, 5_000_000), 5_000_000)
        assert [each.tolist() for each in read] == [begins.tolist(), closes.tolist()]


@pytest.mark.parametrize("counts", ["", "~", "P", "PPPPPPPP0", "11", "0", "é", "\x00", "O1"])
def test_what_are_no_run_lengths_of_this_picture_is_an_error(counts: str) -> None:
    with pytest.raises(ValueError):
        runs_of(counts, 12)


def test_a_picture_beyond_its_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    sketch = Sketch("PNG", b"{}", (300, 300))
    picture = noise(300, 300)
    pieces: list[bytes] = []

    def write(chunk: bytes) -> int:
        pieces.append(chunk)
        return len(chunk)

    draw_and_encode(picture, sketch, write)
    assert (np.asarray(Image.open(io.BytesIO(b"".join(pieces)))) == picture).all()
    monkeypatch.setattr("server.sketch.MAX_PICTURE_BYTES", 100_000)
    pieces.clear()
    with pytest.raises(RequestFailedError) as caught:
        draw_and_encode(picture, sketch, write)
    assert caught.value.code == "picture_too_large" and sum(map(len, pieces)) <= 100_000


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 3), (640, 480)])
def test_noise_with_the_longest_band_fits_into_what_is_set_aside_for_it(
    kind: Any, width: int, height: int
) -> None:
    image = draw(noise(width, height), {"caption": "W" * 9000})
    buffer = io.BytesIO()
    encode(image, kind, buffer.write)
    assert len(buffer.getvalue()) <= Sketch(kind, b"", (width, height)).max_bytes


def test_four_hundred_objects_with_long_outlines_are_drawn() -> None:
    width, height = 3000, 2000
    around = np.linspace(0, 2 * np.pi, 3000)
    ring = np.stack([np.cos(around) * 450 + 1500, np.sin(around) * 450 + 1000], 1).round(2).tolist()
    objects = [{**found(width, height, polygon=ring), "class_id": n} for n in range(400)]
    pixels = drawn(width, height, *objects)
    assert pixels.shape == (height, width, 3) and not (pixels[1000, 1500] == GREY).all()
