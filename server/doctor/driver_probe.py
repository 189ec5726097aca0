"""What NVIDIA's driver says of itself and its GPUs, as one line of JSON. A program: a driver may hang its caller."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def main() -> None:
    """Print it."""
    print(json.dumps(_ask()), flush=True)


def _ask() -> dict[str, Any]:
    """``error`` is NVML's name for what is wrong and ``text`` its words; sizes in bytes."""
    import pynvml  # type: ignore[import-untyped]

    try:
        pynvml.nvmlInit()
        return {
            "driver": _text(pynvml.nvmlSystemGetDriverVersion()),
            "cuda": int(pynvml.nvmlSystemGetCudaDriverVersion_v2()),
            "gpus": [_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())],
        }
    except pynvml.NVMLError as error:
        return {"error": type(error).__name__.removeprefix("NVMLError_"), "text": str(error)}


def _gpu(pynvml: Any, index: int) -> dict[str, Any]:
    gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = _unless_refused(pynvml, lambda: pynvml.nvmlDeviceGetMemoryInfo(gpu))
    mig = _unless_refused(pynvml, lambda: pynvml.nvmlDeviceGetMigMode(gpu)[0])
    return {
        "name": _text(pynvml.nvmlDeviceGetName(gpu)),
        "uuid": _text(pynvml.nvmlDeviceGetUUID(gpu)),
        "capability": _unless_refused(pynvml, lambda: list(pynvml.nvmlDeviceGetCudaComputeCapability(gpu))),
        "total": memory and int(memory.total),
        "free": memory and int(memory.free),
        "is_mig": bool(mig),
        "slices": _slices(pynvml, gpu) if mig else [],
    }


def _slices(pynvml: Any, gpu: Any) -> list[str]:
    """The MIG instances' names, as CUDA_VISIBLE_DEVICES takes them."""
    names: list[str] = []
    for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        found = _unless_refused(pynvml, lambda: pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index))  # noqa: B023
        if found is not None:
            names.append(_text(pynvml.nvmlDeviceGetUUID(found)))
    return names


def _unless_refused(pynvml: Any, ask: Callable[[], Any]) -> Any:
    """None where this GPU or driver does not tell."""
    try:
        return ask()
    except pynvml.NVMLError:
        return None


def _text(value: str | bytes) -> str:
    """Older versions of the library give bytes."""
    return value.decode() if isinstance(value, bytes) else value


if __name__ == "__main__":
    main()
