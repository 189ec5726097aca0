"""What the operator chose for one model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.spec import Family, Precision, RuntimeName, Task

Count = Annotated[int, Field(ge=1)]
AutoCount = Literal["auto"] | Count
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda|cuda:\d+(,cuda:\d+)*)$")]
PerGpu = Annotated[
    dict[Annotated[str, Field(pattern=r"^cuda:\d+$")], Annotated[int, Field(ge=1, le=64)]],
    Field(min_length=1),
]


class ModelSettings(BaseModel):
    """One ``[models.NAME]`` table: an operator's own weights, or options for a model of the catalogue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights: Path | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    family: Family | None = None
    task: Task | None = None
    imgsz: Annotated[int, Field(ge=32, le=4096, multiple_of=32)] | None = None
    end2end: bool | None = None
    runtime: RuntimeName | None = None
    precision: Precision | None = None
    device: Device | None = None
    dedicated: bool = False
    replicas: AutoCount | PerGpu | None = None
    load_at_start: bool | None = None
    description: Annotated[str, Field(max_length=300)] = ""

    @model_validator(mode="after")
    def _gpus_are_named_once(self) -> Self:
        if isinstance(self.replicas, dict) and self.device is not None:
            raise ValueError("replicas names the GPUs, so device must not")
        if self.dedicated and not isinstance(self.replicas, dict) and self.device in (None, "auto", "cpu"):
            raise ValueError("dedicated is about GPUs: device or replicas must name them")
        return self
