from __future__ import annotations

import pytest

from models.errors import RuntimeUnavailableError
from models.runtimes.wish import Pair, Wish

OLD, NEW = ["FP32", "INT8"], ["FP32", "BF16", "INT8"]
TORCH, FP32, BF16, INT8 = ("torch", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "int8")


@pytest.mark.parametrize(
    ("runtime", "precision", "capabilities", "expected"),
    [
        ("auto", "auto", OLD, [TORCH, FP32]),
        ("auto", "auto", NEW, [TORCH, FP32, BF16]),
        ("openvino", "auto", NEW, [FP32, BF16]),
        ("openvino", "bf16", NEW, [BF16]),
        ("auto", "bf16", NEW, [BF16]),
        ("auto", "fp32", NEW, [TORCH, FP32]),
        ("torch", "auto", NEW, [TORCH]),
        ("auto", "int8", OLD, [INT8]),
    ],
)
def test_candidates_are_what_the_processor_has_and_the_operator_allows(
    runtime: str, precision: str, capabilities: list[str], expected: list[Pair]
) -> None:
    assert Wish(runtime, precision).candidates(capabilities) == expected


@pytest.mark.parametrize(
    ("runtime", "precision"), [("openvino", "bf16"), ("torch", "int8"), ("auto", "fp16")]
)
def test_nothing_left_is_an_error(runtime: str, precision: str) -> None:
    with pytest.raises(RuntimeUnavailableError):
        Wish(runtime, precision).candidates(OLD)
