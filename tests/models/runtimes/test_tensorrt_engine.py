"""What of TensorRT needs no GPU: its absence, where engines are kept, and the export to ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from models.answers import no_progress
from models.errors import RuntimeUnavailableError, UnsupportedModelError
from models.runtimes import tensorrt_engine, tensorrt_runtime
from models.runtimes.gpu import Wanted, open_on_gpu
from models.runtimes.tensorrt_engine import INPUT, engine_path, export_onnx, keep, locked
from tests.models.runtimes.cpu_device import CpuDevice
from tests.models.runtimes.test_torch_runtime import SHAPE, Mean

FACTS = {"gpu": "NVIDIA H200", "weights": "0" * 64, "precision": "fp16", "rows": 8}


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_engine, "_PACKAGE", "tensorrt_that_is_not_there")


@pytest.mark.usefixtures("absent")
def test_without_the_package_the_error_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"pip install '\.\[tensorrt\]'") as caught:
        open_on_gpu(
            Mean(),
            SHAPE,
            2,
            CpuDevice(),  # type: ignore[arg-type]
            Wanted("tensorrt", folder=tmp_path),
            no_progress,
        )
    assert (caught.value.code, caught.value.permanent) == ("runtime_unavailable", True)
    assert not list(tmp_path.iterdir())


def test_an_engine_is_for_one_gpu_one_precision_one_network_and_one_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = {engine_path(tmp_path, FACTS), engine_path(tmp_path, dict(FACTS))}
    assert len(paths) == 1
    for name, other in (("gpu", "NVIDIA L4"), ("weights", "1" * 64), ("precision", "bf16"), ("rows", 9)):
        paths.add(engine_path(tmp_path, {**FACTS, name: other}))
    assert len(paths) == 5
    monkeypatch.setattr(tensorrt_engine, "_version", lambda *names: "another")
    paths.add(engine_path(tmp_path, FACTS))
    assert len(paths) == 6


def test_an_engine_is_kept_whole_and_a_folder_that_cannot_be_written_to_costs_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = engine_path(tmp_path, FACTS)
    with locked(path):
        keep(path, b"engine")
    assert path.read_bytes() == b"engine"

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with locked(path):
        keep(path, b"other")
    assert "engine not kept" in caplog.text
    assert path.read_bytes() == b"engine"
    assert {each.suffix for each in path.parent.iterdir()} <= {".engine", ".lock"}
    (tmp_path / "file").touch()
    with locked(engine_path(tmp_path / "file", FACTS)):
        keep(engine_path(tmp_path / "file", FACTS), b"engine")
    assert "engines are not locked" in caplog.text


class _Opened:
    """Stands in for an engine: takes what `_build` below gives, nothing else."""

    def __init__(self, serialized: bytes, *options: Any) -> None:
        if serialized != b"built":
            raise RuntimeUnavailableError("not an engine")
        self.batch = torch.zeros((2, 3, *SHAPE[:2]))


def test_an_engine_is_built_once_and_again_where_the_file_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_built = 0

    def build(*options: Any) -> bytes:
        nonlocal num_built
        num_built += 1
        return b"built"

    monkeypatch.setattr(tensorrt_runtime, "Engine", _Opened)
    monkeypatch.setattr(tensorrt_runtime, "_build", build)
    path = engine_path(tmp_path, FACTS)
    for expected in (1, 1):
        tensorrt_runtime.open_engine(Mean(), SHAPE, 2, CpuDevice(), "fp16", path)  # type: ignore[arg-type]
        assert num_built == expected
    path.write_bytes(b"torn")
    tensorrt_runtime.open_engine(Mean(), SHAPE, 2, CpuDevice(), "fp16", path)  # type: ignore[arg-type]
    assert (num_built, path.read_bytes()) == (2, b"built")
    tensorrt_runtime.open_engine(Mean(), SHAPE, 2, CpuDevice(), "fp16", None)  # type: ignore[arg-type]
    assert num_built == 3


class _Small(torch.nn.Module):
    """A head as the library's: it looks at `dynamic`, and compares sizes where that is not set."""

    dynamic = False

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 5, 3)
        self.num_rows = 0

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, str]:
        if not self.dynamic and self.num_rows != len(batch):
            raise RuntimeError("another batch size")
        return self.layer(batch).mean((2, 3)), "raw"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_graph_in_onnx_takes_any_number_of_rows_in_the_precision_of_the_network(
    dtype: torch.dtype,
) -> None:
    onnx = pytest.importorskip("onnx", reason="comes with the extra `tensorrt`")
    pytest.importorskip("onnxscript", reason="comes with the extra `tensorrt`")
    height, width, channels = SHAPE
    network = _Small().to(dtype).eval()
    graph = onnx.load_from_string(
        export_onnx(network, torch.zeros((2, channels, height, width), dtype=dtype), 8)
    )
    assert not network.dynamic
    onnx.checker.check_model(graph)
    (given,), (found,) = graph.graph.input, graph.graph.output
    assert given.name == INPUT
    kind = {torch.float32: onnx.TensorProto.FLOAT, torch.float16: onnx.TensorProto.FLOAT16}[dtype]
    for each, sides in ((given, [channels, height, width]), (found, [5])):
        assert each.type.tensor_type.elem_type == kind
        rows, *others = each.type.tensor_type.shape.dim
        assert rows.dim_param, "any number of rows"
        assert [other.dim_value for other in others] == sides


def test_a_network_that_cannot_be_exported_says_so() -> None:
    pytest.importorskip("onnxscript", reason="comes with the extra `tensorrt`")

    class Refuses(torch.nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("not traceable")

    with pytest.raises(UnsupportedModelError, match="ONNX"):
        export_onnx(Refuses(), torch.zeros((2, 3, 4, 4)), 8)
