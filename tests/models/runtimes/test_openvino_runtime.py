from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from models.runtimes.conversion import ConversionError, convert
from models.runtimes.openvino_runtime import OpenVinoRuntime
from models.runtimes.place import Place
from tests.models.runtimes.test_torch_runtime import MAX_BATCH_SIZE, SHAPE, Mean, pixels


class Two(torch.nn.Module):
    """As segmentation: a pair, then what nobody reads."""

    def forward(self, batch: torch.Tensor) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
        return (batch.mean((2, 3)), batch.amax((2, 3))), batch


class Stubborn(torch.nn.Module):
    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError("not this way\nat all")


class Hungry(torch.nn.Module):
    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("std::bad_alloc")


class Means(torch.nn.Module):
    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        means: torch.Tensor = Mean()(batch)[0] if torch.is_inference_mode_enabled() else batch.mean((2, 3))
        return means


def runtime(network: torch.nn.Module) -> OpenVinoRuntime:
    return OpenVinoRuntime(convert(network, SHAPE), SHAPE, "fp32", Place("cpu", MAX_BATCH_SIZE, 1))


@pytest.fixture(scope="module")
def means() -> OpenVinoRuntime:
    return runtime(Means())


def test_every_row_is_its_image_in_rgb_from_0_to_1(means: OpenVinoRuntime) -> None:
    for seeds in ([0], [1, 2, 3], [4, 5], [6]):
        images = [pixels(seed) for seed in seeds]
        found = means.launch(images).result()
        expected = np.stack([image.reshape(-1, 3).mean(0) / 255 for image in images])
        assert isinstance(found, np.ndarray)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_pair_of_outputs_stays_a_pair() -> None:
    first, second = runtime(Two()).launch([pixels(0), pixels(1)]).result()
    images = np.stack([pixels(0), pixels(1)]) / 255
    np.testing.assert_allclose(first, images.mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(second, images.max((1, 2)), rtol=1e-5)


def test_an_image_that_is_alone_is_spread_over_all_cores_and_answered_alike() -> None:
    code = (
        "import os, numpy as np\n"
        "first = min(os.sched_getaffinity(0)); everywhere = sorted(os.sched_getaffinity(0))\n"
        "os.sched_setaffinity(0, [first])\n"
        "from models.runtimes import cores\n"
        "from models.runtimes.wish import capabilities\n"
        "with cores.on(everywhere): capabilities()\n"
        "from tests.models.runtimes.test_openvino_runtime import *\n"
        "place = Place('cpu', MAX_BATCH_SIZE, 1, len(everywhere), everywhere)\n"
        "made = OpenVinoRuntime(convert(Means(), SHAPE), SHAPE, 'fp32', place)\n"
        "def answer(): return np.copy(made.launch([pixels(0), pixels(1)]).result())\n"
        "few = answer(); made.is_alone = True; many = answer()\n"
        "assert made._widening._narrow_seconds is not None and np.allclose(few, many)\n"
        "assert os.sched_getaffinity(0) == {first}\n"
        "print((made._wide is None) == (len(everywhere) == 1))\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    assert result.stdout == "True\n", result.stderr


def test_where_nobody_is_pinned_threads_are_as_many_as_planned_and_none_pins_itself() -> None:
    code = (
        "import os, time\n"
        "from tests.models.runtimes.test_openvino_runtime import *\n"
        "torch.manual_seed(0); torch.set_num_threads(1); shape = (96, 96, 3)\n"
        "layers = [torch.nn.Conv2d(3, 32, 3), *(torch.nn.Conv2d(32, 32, 3) for _ in range(4))]\n"
        "network = convert(torch.nn.Sequential(*layers), shape)\n"
        "made = OpenVinoRuntime(network, shape, 'fp32', Place('cpu', 1, 1, 2))\n"
        "picture = [np.zeros(shape, np.uint8)]; made.launch(picture).result()\n"
        "wall, cpu = time.perf_counter(), time.process_time()\n"
        "for _ in range(30): made.launch(picture).result()\n"
        "wall, cpu = time.perf_counter() - wall, time.process_time() - cpu\n"
        "masks = [os.sched_getaffinity(int(thread)) for thread in os.listdir('/proc/self/task')]\n"
        "assert made._wide is not None and len(masks) > 1\n"
        "assert all(mask == os.sched_getaffinity(0) for mask in masks), masks\n"
        "assert cpu / wall < 1.3, cpu / wall\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_more_rows_than_promised_are_refused(means: OpenVinoRuntime) -> None:
    with pytest.raises(ValueError, match="4 images are more than 3"):
        means.launch([pixels(0)] * (MAX_BATCH_SIZE + 1))


def test_pixels_of_another_shape_are_refused(means: OpenVinoRuntime) -> None:
    for shape in ((1, 1, 3), (4, 6, 3), (6, 4)):
        with pytest.raises(ValueError, match="do not fit"):
            means.launch([np.zeros(shape, np.uint8)])


def test_a_network_that_cannot_be_traced_says_why_in_one_line() -> None:
    with pytest.raises(ConversionError, match=r"NotImplementedError: not this way$"):
        convert(Stubborn(), SHAPE)


def test_want_of_memory_says_nothing_about_the_network() -> None:
    with pytest.raises(RuntimeError, match="bad_alloc"):
        convert(Hungry(), SHAPE)


def test_openvino_reports_to_nobody_and_starts_no_thread_before_a_fork() -> None:
    code = (
        "import sys, os, models.runtimes, openvino, openvino.tools.ovc\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
        "print(len(os.listdir('/proc/self/task')))"
    )
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # as workers_environment has it
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1"]
