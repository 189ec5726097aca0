from __future__ import annotations

import numpy as np
import pytest
import torch

from models.runtimes.torch_runtime import TorchRuntime

SHAPE = (6, 4, 3)
MAX_BATCH_SIZE = 3


class Mean(torch.nn.Module):
    """Answers each image's mean of each channel, as a head does: first of a tuple."""

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, str]:
        assert torch.is_inference_mode_enabled()
        return batch.mean((2, 3)), "raw"


@pytest.fixture
def runtime() -> TorchRuntime:
    return TorchRuntime(Mean(), SHAPE, MAX_BATCH_SIZE)


def pixels(seed: int) -> np.typing.NDArray[np.uint8]:
    drawn = np.random.default_rng(seed).integers(0, 256, SHAPE, dtype=np.uint8)
    drawn.flags.writeable = False
    return drawn


def test_every_row_is_its_image_in_rgb_from_0_to_1(runtime: TorchRuntime) -> None:
    for seeds in ([0], [1, 2, 3], [4, 5], [6]):
        images = [pixels(seed) for seed in seeds]
        found = runtime.launch(images).result()
        expected = np.stack([image.reshape(-1, 3).mean(0) / 255 for image in images])
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_more_rows_than_promised_are_refused(runtime: TorchRuntime) -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        runtime.launch([pixels(0)] * (MAX_BATCH_SIZE + 1))


def test_pixels_of_another_shape_are_refused(runtime: TorchRuntime) -> None:
    for shape in ((1, 1, 3), (4, 6, 3), (6, 4)):
        with pytest.raises(ValueError, match="do not fit"):
            runtime.launch([np.zeros(shape, np.uint8)])


def test_an_earlier_answer_is_not_changed_by_a_later_batch(runtime: TorchRuntime) -> None:
    first = runtime.launch([pixels(0)]).result()
    kept = np.copy(first)
    runtime.launch([pixels(1)])
    assert np.array_equal(first, kept)
