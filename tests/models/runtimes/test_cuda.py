"""The runtimes on a real GPU, against PyTorch in fp32 on the CPU. Needs an NVIDIA GPU."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.answers import Pixels, no_progress
from models.catalogue import CATALOGUE
from models.checkpoint import Checkpoint, read_checkpoint
from models.runtimes.cuda_device import CudaDevice
from models.runtimes.gpu import Wanted, open_on_gpu
from models.runtimes.torch_runtime import TorchRuntime
from models.weights import resolve
from models.yolo import load
from pool.slab import Slab, SlabView
from tests.models.networks import row, shapes

pytestmark = pytest.mark.gpu

CONFIG = {**CATALOGUE["shapes-detect"].to_config(), "max_batch_size": 8, "num_threads": 1}
MAX_BATCH_SIZE = 8


def checkpoint() -> Checkpoint:
    return read_checkpoint(resolve(CONFIG, no_progress).path, None)


@pytest.fixture(scope="module")
def device() -> CudaDevice:
    return CudaDevice("cuda:0")


@pytest.fixture(scope="module")
def shape() -> tuple[int, int, int]:
    return (*checkpoint().traits.input_shape, 3)


@pytest.fixture(scope="module")
def expected(shape: tuple[int, int, int]) -> Any:
    """What each of a batch of pictures gives in fp32 on the CPU."""
    return TorchRuntime(checkpoint().network, shape, MAX_BATCH_SIZE).launch(pictures(shape)).result()


def pictures(shape: tuple[int, int, int]) -> list[Pixels]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, shape, np.uint8) for _ in range(MAX_BATCH_SIZE)]


@pytest.fixture
def slab(shape: tuple[int, int, int]) -> Iterator[tuple[Pixels, list[Pixels]]]:
    """A worker's view of a slab with the pictures in it."""
    slab = Slab(MAX_BATCH_SIZE, shape)
    view = SlabView(slab.detach(), MAX_BATCH_SIZE, shape, is_writable=True)
    leases = [slab.lease() for _ in range(MAX_BATCH_SIZE)]
    for lease, picture in zip(leases, pictures(shape), strict=True):
        lease.pixels[:] = picture
    yield view.memory, [view.pixels(lease.slot, lease.nonce) for lease in leases]
    torch.cuda.check_error(torch.cuda.cudart().cudaHostUnregister(view.memory.ctypes.data))


@pytest.mark.parametrize(("precision", "limit"), [("fp32", 1e-3), ("fp16", 2e-2), ("bf16", 0.2)])
def test_every_batch_size_gives_what_fp32_on_the_cpu_gives(
    device: CudaDevice,
    shape: tuple[int, int, int],
    expected: Any,
    slab: tuple[Pixels, list[Pixels]],
    precision: str,
    limit: float,
) -> None:
    wanted = Wanted("torch", precision)
    runtime = open_on_gpu(checkpoint().network, shape, MAX_BATCH_SIZE, device, wanted, no_progress)
    assert runtime.computation.is_recorded  # type: ignore[attr-defined]
    memory, slots = slab
    runtime.attach(memory)
    assert runtime._lanes._slots is not None, "the slab is page-locked"
    assert runtime._lanes._slots.is_pinned()
    for num_rows in (1, 3, MAX_BATCH_SIZE, 2):
        found = runtime.launch(slots[:num_rows]).result()
        assert isinstance(found, torch.Tensor)
        scores = np.abs(found.cpu().numpy()[:, 4:] - expected[:num_rows, 4:])
        boxes = np.abs(found.cpu().numpy()[:, :4] - expected[:num_rows, :4])
        assert scores.max() < limit
        assert boxes.mean() < 100 * limit


def test_batches_under_way_together_do_not_mix(
    device: CudaDevice, shape: tuple[int, int, int], slab: tuple[Pixels, list[Pixels]]
) -> None:
    runtime = open_on_gpu(checkpoint().network, shape, MAX_BATCH_SIZE, device, Wanted(), no_progress)
    memory, slots = slab
    runtime.attach(memory)
    alone = [runtime.launch([slot]).result() for slot in slots]
    before = None
    for turn in range(200):
        running = runtime.launch([slots[turn % MAX_BATCH_SIZE]])
        if before is not None:
            torch.testing.assert_close(before.result(), alone[(turn - 1) % MAX_BATCH_SIZE])
        before = running


def test_boxes_of_the_demo_model_are_those_of_the_cpu() -> None:
    rows = [row(picture, 320, 320) for picture in shapes().values()]
    on_gpu = load(CONFIG, "cuda:0", no_progress).infer(rows).fragments
    on_cpu = load(CONFIG, "cpu", no_progress).infer(rows).fragments
    for found, right in zip(on_gpu, on_cpu, strict=True):
        assert isinstance(found, bytes)
        assert isinstance(right, bytes)
        confidences = [
            [each["confidence"] for each in json.loads(answer)["predictions"]] for answer in (found, right)
        ]
        assert len(confidences[0]) == len(confidences[1])
        np.testing.assert_allclose(*confidences, atol=0.02)


def test_tensorrt_gives_what_fp32_on_the_cpu_gives_and_starts_again_from_its_file(
    device: CudaDevice, shape: tuple[int, int, int], expected: Any, tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt", reason="the extra `tensorrt`")
    wanted = Wanted("tensorrt", "fp16", tmp_path)
    for _ in range(2):
        runtime = open_on_gpu(checkpoint().network, shape, MAX_BATCH_SIZE, device, wanted, no_progress)
        for num_rows in (1, 3, MAX_BATCH_SIZE):
            found = runtime.launch(pictures(shape)[:num_rows]).result()
            assert isinstance(found, torch.Tensor)
            assert np.abs(found.cpu().numpy()[:, 4:] - expected[:num_rows, 4:]).max() < 2e-2
    assert len(list((tmp_path / "tensorrt").glob("*.engine"))) == 1
