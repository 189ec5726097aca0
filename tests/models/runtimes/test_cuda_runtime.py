"""The runtime on a GPU with a stand-in for the GPU; test_cuda.py has the real one."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch

from models.answers import Pixels, no_progress
from models.batch_sizes import batch_sizes
from models.errors import RuntimeUnavailableError
from models.runtimes.cuda_runtime import CudaRuntime
from models.runtimes.gpu import Wanted, open_on_gpu
from tests.models.runtimes.cpu_device import CpuDevice
from tests.models.runtimes.test_torch_runtime import SHAPE, Mean, pixels

MAX_BATCH_SIZE = 6


def make(device: CpuDevice, network: torch.nn.Module | None = None, precision: str = "fp32") -> CudaRuntime:
    wanted = Wanted("torch", precision)
    return open_on_gpu(network or Mean(), SHAPE, MAX_BATCH_SIZE, device, wanted, no_progress)  # type: ignore[arg-type]


def means(images: list[Pixels]) -> Any:
    return np.stack([image.reshape(-1, 3).mean(0) / 255 for image in images])


def slab(num_slots: int) -> tuple[Pixels, list[Pixels]]:
    """Memory with a header, and the read-only slots in it."""
    size = int(np.prod(SHAPE))
    memory = np.zeros(64 + num_slots * (size + 8), np.uint8)
    slots = []
    for number in range(num_slots):
        start = 64 + number * (size + 8)
        slot = memory[start : start + size].reshape(SHAPE)
        slot[:] = pixels(number)
        slot.flags.writeable = False
        slots.append(slot)
    return memory, slots


@pytest.mark.parametrize("refuses", [(), ("capture",), ("register",), ("register", "capture")])
def test_every_row_is_its_image_in_rgb_from_0_to_1(refuses: tuple[str, ...]) -> None:
    runtime = make(CpuDevice(*refuses))
    memory, slots = slab(MAX_BATCH_SIZE)
    runtime.attach(memory)
    for images in ([slots[3]], slots, slots[1:4], [slots[0], pixels(77), slots[5]], slots[:5]):
        found = runtime.launch(images).result()
        np.testing.assert_allclose(found, means(images), rtol=1e-5)


def test_results_of_batches_under_way_together_never_mix() -> None:
    runtime = make(CpuDevice())
    before = None
    for number in range(20):
        images = [pixels(10 * number + row) for row in range(1 + number % MAX_BATCH_SIZE)]
        running = runtime.launch(images), means(images)
        if before is not None:
            np.testing.assert_allclose(before[0].result(), before[1], rtol=1e-5)
        before = running


def test_a_result_is_not_changed_by_later_batches() -> None:
    runtime = make(CpuDevice())
    first = runtime.launch([pixels(0)]).result()
    for number in range(1, 5):
        runtime.launch([pixels(number)]).result()
    np.testing.assert_allclose(first, means([pixels(0)]), rtol=1e-5)


def test_pixels_in_the_attached_memory_are_copied_from_there_and_others_through_staging() -> None:
    device = CpuDevice()
    runtime = make(device)
    memory, slots = slab(2)
    runtime.attach(memory)
    for staged in device.staged:
        staged.fill_(99)
    runtime.launch(slots).result()
    assert all((staged == 99).all() for staged in device.staged)
    runtime.launch([slots[0], pixels(5)]).result()
    assert sum(int((staged != 99).any(-1).any(-1).any(-1).sum()) for staged in device.staged) == 1


def test_no_more_batches_are_begun_than_there_is_memory_for_and_a_result_makes_room() -> None:
    runtime = make(CpuDevice())
    begun = [runtime.launch([pixels(number)]) for number in range(runtime.max_launched)]
    with pytest.raises(RuntimeError, match="more batches begun"):
        runtime.launch([pixels(9)])
    begun[0].result()
    np.testing.assert_allclose(runtime.launch([pixels(9)]).result(), means([pixels(9)]), rtol=1e-5)


def test_a_batch_that_failed_leaves_its_memory_to_others() -> None:
    device = CpuDevice("capture")

    class Fails(Mean):
        is_broken = False

        def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, str]:
            if self.is_broken:
                raise ValueError("a bug")
            return super().forward(batch)

    network = Fails()
    runtime = make(device, network)
    network.is_broken = True
    for _ in range(5):
        with pytest.raises(ValueError, match="a bug"):
            runtime.launch([pixels(1)])
    network.is_broken = False
    for _ in range(5):
        running = runtime.launch([pixels(1)])
        device.failure = torch.AcceleratorError("CUDA error: unspecified launch failure")
        with pytest.raises(torch.AcceleratorError):
            running.result()
        device.failure = None
    assert runtime.launch([pixels(1)]).result() is not None


def test_images_of_another_shape_or_too_many_are_refused_before_anything_is_taken() -> None:
    runtime = make(CpuDevice())
    for _ in range(3):
        with pytest.raises(ValueError, match="do not fit"):
            runtime.launch([pixels(0), np.zeros((1, 1, 3), np.uint8)])
        with pytest.raises(ValueError, match="are more than"):
            runtime.launch([pixels(0)] * (MAX_BATCH_SIZE + 1))
    for _ in range(3):
        runtime.launch([pixels(0)]).result()


def test_batches_are_repeated_from_recordings_of_the_next_larger_size() -> None:
    assert batch_sizes(1) == [1]
    assert batch_sizes(6) == [1, 2, 4, 6]
    assert batch_sizes(8) == [1, 2, 4, 8]
    device = CpuDevice()
    runtime = make(device)
    before = device.num_repeated
    for num_rows in range(1, MAX_BATCH_SIZE + 1):
        images = [pixels(row) for row in range(num_rows)]
        np.testing.assert_allclose(runtime.launch(images).result(), means(images), rtol=1e-5)
    assert device.num_repeated == before + MAX_BATCH_SIZE


@pytest.mark.parametrize("device", [CpuDevice("capture"), CpuDevice(freezes=True)])
def test_a_network_that_cannot_be_recorded_is_run_as_it_is(
    device: CpuDevice, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        runtime = make(device)
    assert "not recorded" in caplog.text
    assert not runtime.computation.is_recorded
    np.testing.assert_allclose(runtime.launch([pixels(3)]).result(), means([pixels(3)]), rtol=1e-5)


class _RemembersSize(torch.nn.Module):
    """Keeps what it made for one batch size until another comes, as the library's heads keep their anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = torch.zeros(0)
        self.made: list[torch.Tensor] = []

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        if len(self.offset) != len(batch):
            self.offset = torch.ones((len(batch), 1))
        return batch.mean((2, 3)) + self.offset


def test_what_a_recording_reads_outlives_its_replacement_in_the_network() -> None:
    network = _RemembersSize()
    runtime = make(CpuDevice(), network)
    kept = [
        value
        for graph in runtime.computation._graphs.values()
        for values in graph.kept
        for value in values
        if isinstance(value, torch.Tensor)
    ]
    assert sorted(len(value) for value in kept) == batch_sizes(MAX_BATCH_SIZE)


@pytest.mark.parametrize(("precision", "limit"), [("fp16", 1e-3), ("bf16", 1e-2)])
def test_a_reduced_precision_gives_float32_close_to_it(precision: str, limit: float) -> None:
    runtime = make(CpuDevice(), precision=precision)
    assert runtime.precision == precision
    images = [pixels(row) for row in range(4)]
    found = runtime.launch(images).result()
    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, means(images), rtol=limit)


def test_a_precision_that_no_gpu_has_here_is_refused() -> None:
    with pytest.raises(RuntimeUnavailableError, match="int8"):
        make(CpuDevice(), precision="int8")


def test_a_runtime_that_no_gpu_has_here_is_refused() -> None:
    with pytest.raises(RuntimeUnavailableError, match="openvino"):
        open_on_gpu(Mean(), SHAPE, 1, CpuDevice(), Wanted("openvino"), no_progress)  # type: ignore[arg-type]


def test_half_precision_is_the_default_on_a_gpu() -> None:
    runtime = open_on_gpu(Mean(), SHAPE, 1, CpuDevice(), Wanted(), no_progress)  # type: ignore[arg-type]
    assert (runtime.name, runtime.precision) == ("torch", "fp16")


def test_a_pair_of_outputs_comes_as_a_pair() -> None:
    class Pair(torch.nn.Module):
        def forward(self, batch: torch.Tensor) -> tuple[Any, str]:
            return (batch.mean((2, 3)), batch.amax((2, 3))), "raw"

    first, second = make(CpuDevice(), Pair()).launch([pixels(1)]).result()
    np.testing.assert_allclose(first, means([pixels(1)]), rtol=1e-5)
    np.testing.assert_allclose(second, pixels(1).reshape(1, -1, 3).max(1) / 255, rtol=1e-5)


def test_results_are_handed_over_to_the_stream_that_reads_them() -> None:
    device = CpuDevice()
    runtime = make(device)
    found = runtime.launch([pixels(1)]).result()
    assert device.handed_over == [found]
    assert device.computing.num_waits == 1, "the network waits for its pixels"
