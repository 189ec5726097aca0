from __future__ import annotations

from pathlib import Path

import pytest

from models.catalogue import CATALOGUE
from server.estimate import _SIZE_LETTER, MIB, input_side, weights_size, worker_size

PEAKS = {
    "yolov8n": (6.5, 331), "yolo26n": (5.3, 374), "yolov8m": (50, 745), "yolov8x": (131, 1435),
    "yolov8n-seg": (6.8, 531), "yolov8x-seg": (137, 1428), "yolov8n-cls": (3, 268), "rtdetr-l": (64, 938),
}  # fmt: skip
"""MiB of the file, and of the worker as it was measured."""


@pytest.mark.parametrize("name", PEAKS)
def test_a_guess_is_not_below_what_was_measured_nor_far_above(name: str) -> None:
    file_size, peak = PEAKS[name]
    guess = worker_size(CATALOGUE[name], int(file_size * MIB), 8, "cpu") / MIB
    assert peak <= guess <= 1.3 * peak


def test_a_small_blip_is_not_taken_for_a_large_one() -> None:
    small, large = (worker_size(CATALOGUE["shapes-vqa"], size * MIB, 8, "cpu") / MIB for size in (3, 1465))
    assert 160 <= small <= 320, "160 MiB were measured, private and shared, with OpenVINO"
    assert 3500 <= large <= 4000


def test_without_the_file_the_name_tells_its_size() -> None:
    sizes = [
        worker_size(CATALOGUE[name], None, 8, "cpu") for name in ("yolov8n", "yolov8s", "yolov8m", "yolov8x")
    ]
    assert sizes == sorted(set(sizes))
    for name, (file_size, _) in PEAKS.items():
        entry = CATALOGUE[name]
        assert worker_size(entry, None, 8, "cpu") >= worker_size(entry, int(file_size * MIB), 8, "cpu")
    released = [entry for entry in CATALOGUE.values() if entry.source == "ultralytics"]
    assert all(_SIZE_LETTER.fullmatch(entry.model_id) for entry in released)


def test_it_grows_with_batches_and_input() -> None:
    entry = CATALOGUE["yolov8n"]
    plain = worker_size(entry, 7 * MIB, 8, "cpu")
    assert worker_size(entry, 7 * MIB, 32, "cpu") > plain > worker_size(entry, 7 * MIB, 1, "cpu")
    assert worker_size(entry, 7 * MIB, 8, "cuda:0") > plain + 1024 * MIB
    assert [input_side(CATALOGUE[name]) for name in ("shapes-detect", "yolov8n", "yolov8n-cls", "blip-vqa-base")] == [
        320, 640, 224, 384,
    ]  # fmt: skip


def test_weights_are_a_file_or_a_folder_of_safetensors(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"12345")
    (tmp_path / "b.safetensors").write_bytes(b"123")
    (tmp_path / "vocab.txt").write_bytes(b"many words")
    assert weights_size(tmp_path) == 8
    assert weights_size(tmp_path / "a.safetensors") == 5
    assert weights_size(tmp_path / "none.pt") is None
    assert weights_size(None) is None
