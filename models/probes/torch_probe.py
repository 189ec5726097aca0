"""What PyTorch sees: its build, the GPUs, and whether each of them computes."""

from __future__ import annotations

import warnings
from typing import Any

from models.probes.saying import say

NUM_ELEMENTS = 1 << 16


def main() -> None:
    """Say it. Whatever goes wrong before the GPUs ends the program with the exception."""
    say(stage="importing torch")
    import torch

    say(version=torch.__version__, cuda=torch.version.cuda, architectures=_architectures(torch))
    say(stage="asking CUDA for its GPUs")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    say(num_gpus=num_gpus, warnings=[" ".join(str(each.message).split()) for each in caught])
    gpus: list[dict[str, Any]] = []
    for index in range(num_gpus):
        say(stage=f"computing on cuda:{index}")
        gpus.append(_gpu(torch, index))
        say(gpus=gpus)


def _architectures(torch: Any) -> list[str]:
    """What the build has kernels for, such as ``sm_90``; known without a GPU, unlike `torch.cuda.get_arch_list`."""
    flags = getattr(torch._C, "_cuda_getArchFlags", None)
    return (flags() or "").split() if flags is not None else []


def _gpu(torch: Any, index: int) -> dict[str, Any]:
    """One GPU's name, memory in bytes and compute capability; `failure` is empty if a sum on it was right."""
    gpu: dict[str, Any] = {"failure": ""}
    try:
        gpu["name"] = torch.cuda.get_device_name(index)
        gpu["capability"] = list(torch.cuda.get_device_capability(index))
        gpu["free"], gpu["total"] = torch.cuda.mem_get_info(index)
        numbers = torch.arange(NUM_ELEMENTS, dtype=torch.float32)
        there = numbers.to(f"cuda:{index}")
        if not torch.equal((there + there).cpu(), numbers + numbers):
            gpu["failure"] = "a sum came back wrong"
    except (RuntimeError, AssertionError) as error:  # torch's own errors of CUDA are RuntimeErrors
        gpu["failure"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return gpu


if __name__ == "__main__":
    main()
