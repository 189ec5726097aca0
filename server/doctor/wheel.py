"""The installed build of PyTorch, read from its files: importing it takes seconds, and may be what is broken."""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass
from pathlib import Path

LIBRARY = "torch"
INDEX = "https://download.pytorch.org/whl/"
"""PyTorch's own index, one folder per CUDA version; the same as in the Makefile."""
CPU_BUILD = "the build without CUDA: make install CPU=1, or the image built with ACCELERATOR=cpu"


@dataclass(frozen=True, slots=True)
class Wheel:
    """`version` as in ``2.15.0+cu132``; `cuda` is the version of CUDA that it brings, None for a build without."""

    version: str
    cuda: tuple[int, int] | None

    @property
    def release(self) -> str:
        """The version without its build."""
        return self.version.partition("+")[0]


def installed_wheel() -> Wheel | None:
    """None if there is none, or if its version file cannot be read."""
    spec = importlib.util.find_spec(LIBRARY)
    if spec is None or spec.origin is None:
        return None
    try:
        return read_wheel(Path(spec.origin).with_name("version.py").read_text("utf-8"))
    except OSError:
        return None


def read_wheel(text: str) -> Wheel | None:
    """From the text of torch/version.py; None if it does not say."""
    try:
        lines = ast.parse(text).body
    except SyntaxError:
        return None
    values: dict[str, object] = {}
    for line in lines:
        target: ast.expr | None = line.target if isinstance(line, ast.AnnAssign) else None
        if isinstance(line, ast.Assign):
            target = line.targets[0]
        if isinstance(line, ast.Assign | ast.AnnAssign) and isinstance(target, ast.Name):
            values[target.id] = line.value.value if isinstance(line.value, ast.Constant) else None
    version, cuda = values.get("__version__"), values.get("cuda")
    if not isinstance(version, str):
        return None
    return Wheel(version, parse_cuda(cuda) if isinstance(cuda, str) else None)


def parse_cuda(text: str) -> tuple[int, int]:
    """``13.2`` as (13, 2). Raises ValueError."""
    major, _, minor = text.partition(".")
    return int(major), int(minor.partition(".")[0] or 0)
