"""What an operator asks of the runtime, and what of it can be had on a device. No torch; openvino inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from models.errors import RuntimeUnavailableError

Pair: TypeAlias = tuple[str, str]
"""A runtime and a precision."""
TORCH: Pair = ("torch", "fp32")
PUBLISHED: tuple[Pair, ...] = (("openvino", "fp32"), ("openvino", "bf16"))
"""Those of OpenVINO that `auto` may take where their published accuracy is good enough."""
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Wish:
    """`runtime` is auto, torch, openvino or tensorrt; `precision` auto, fp32, bf16, fp16 or int8. `folder` keeps
    converted networks, None: nothing is kept."""

    runtime: str = "torch"
    precision: str = "fp32"
    folder: Path | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Wish:
        """Of a factory's config; one that names no runtime wants PyTorch as it is."""
        runtime = config.get("runtime") or "torch"
        precision = config.get("precision") or ("fp32" if config.get("runtime") is None else AUTO)
        folder = config.get("converted_dir")
        return cls(runtime, precision, Path(folder).expanduser() if folder else None)

    @property
    def is_plain(self) -> bool:
        """PyTorch on the CPU, and nothing to choose."""
        return self.runtime == "torch" and self.precision in (AUTO, "fp32")

    @property
    def is_open(self) -> bool:
        """Whether something may be left to choose."""
        return AUTO in (self.runtime, self.precision)

    def candidates(self, capabilities: Sequence[str]) -> list[Pair]:
        """What may run on a CPU with these `capabilities` (OpenVINO's words), the most exact first.

        int8 is among them only if it is asked for: its network is made from an operator's images. Raises
        RuntimeUnavailableError if nothing is left.
        """
        has_bf16 = "BF16" in capabilities
        pairs = [TORCH, *(pair for pair in PUBLISHED if has_bf16 or pair[1] != "bf16")]
        if self.precision == "int8":
            pairs.append(("openvino", "int8"))
        left = [
            (runtime, precision)
            for runtime, precision in pairs
            if self.runtime in (AUTO, runtime) and self.precision in (AUTO, precision)
        ]
        if not left:
            reason = self._reason(has_bf16)
            raise RuntimeUnavailableError(
                f"runtime {self.runtime} with precision {self.precision} cannot be had on the CPU: {reason}"
            )
        return left

    def _reason(self, has_bf16: bool) -> str:
        if self.runtime == "tensorrt":
            return "TensorRT needs an NVIDIA GPU"
        if self.precision == "bf16" and self.runtime != "torch" and not has_bf16:
            return "this processor has no bfloat16 (AMX or AVX512-BF16)"
        return "torch runs fp32 there, openvino fp32, bf16 and int8"


def require_possible(wish: Wish, device: str) -> None:
    """Raises RuntimeUnavailableError for what no machine has: a runtime for the other kind of device."""
    if device == "cpu" and wish.runtime == "tensorrt":
        raise RuntimeUnavailableError("runtime tensorrt needs an NVIDIA GPU; this model is on the CPU")
    if device != "cpu" and wish.runtime == "openvino":
        raise RuntimeUnavailableError(f"runtime openvino runs on the CPU; this model is on {device}")


def capabilities() -> list[str]:
    """What OpenVINO can do on this CPU: FP32, BF16 and so on."""
    import openvino

    return list(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
