"""The models this engine knows by name. Plain data without torch, read by the front and the command line.

A request can only name an entry; which file that means is decided here or by the operator. A new model is a
new row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from models.spec import Family, Task

Source = Literal["package", "ultralytics", "hub", "file"]
"""Where an entry's weights come from.

package      a file inside this package, `weights` is its path below `models/`
ultralytics  an asset of the Ultralytics release, `weights` is its file name
hub          a Hugging Face repository, `weights` is its id
file         a file (or, for BLIP, a folder) of the operator's, `weights` is its path
"""

FACTORIES: Mapping[Family, str] = MappingProxyType({"yolo": "models.yolo:load", "blip": "models.blip:load"})

PRELOAD: Mapping[Family, tuple[str, ...]] = MappingProxyType(
    {
        "yolo": ("torch", "ultralytics.nn.tasks", "ultralytics.utils.nms", "models.yolo"),
        "blip": (
            "torch",
            "transformers.models.blip.modeling_blip",
            "transformers.models.auto.tokenization_auto",
            "models.blip",
        ),
    }
)
"""What a family's workers import before they are forked. None of it touches CUDA or runs an operator."""


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One model by name. `sha256` is the weights file's (`model.safetensors` for BLIP), None if not pinned.

    `imgsz` is the square input size in pixels, None for the one stored with the weights.
    """

    model_id: str
    family: Family
    task: Task
    source: Source
    weights: str
    description: str
    sha256: str | None = None
    revision: str | None = None
    imgsz: int | None = None
    load_at_start: bool = False

    @property
    def factory(self) -> str:
        """Import string of the function that loads this entry in a worker."""
        return FACTORIES[self.family]

    @property
    def preload(self) -> tuple[str, ...]:
        """Modules that this entry's workers need."""
        return PRELOAD[self.family]

    def to_config(self) -> dict[str, Any]:
        """The part of the factory's config that this entry decides: JSON types only."""
        return {
            "model_id": self.model_id,
            "task": self.task,
            "source": self.source,
            "weights": self.weights,
            "sha256": self.sha256,
            "revision": self.revision,
            "imgsz": self.imgsz,
        }


def operator_entry(
    model_id: str,
    path: Path,
    *,
    sha256: str | None = None,
    family: Family = "yolo",
    task: Task = "detect",
    imgsz: int | None = None,
) -> CatalogueEntry:
    """An entry for the operator's own weights: a `.pt` file, or a folder in Hugging Face layout for BLIP."""
    return CatalogueEntry(
        model_id=model_id,
        family=family,
        task=task,
        source="file",
        weights=str(path),
        description=f"The operator's weights {path.name}.",
        sha256=sha256,
        imgsz=imgsz,
    )


def _yolo(model_id: str, task: Task, description: str) -> CatalogueEntry:
    return CatalogueEntry(model_id, "yolo", task, "ultralytics", f"{model_id}.pt", description)


_ENTRIES: tuple[CatalogueEntry, ...] = (
    CatalogueEntry(
        "shapes-detect",
        "yolo",
        "detect",
        "package",
        "demo/shapes-detect.pt",
        "Coloured shapes: a small demo detector that ships with the engine.",
        load_at_start=True,
    ),
    _yolo("yolov8n", "detect", "YOLOv8 nano, 80 COCO classes."),
    _yolo("yolov8s", "detect", "YOLOv8 small, 80 COCO classes."),
    CatalogueEntry(
        "blip-vqa-base",
        "blip",
        "vqa",
        "hub",
        "Salesforce/blip-vqa-base",
        "BLIP base, answers questions about an image.",
    ),
)


def index(entries: Iterable[CatalogueEntry]) -> Mapping[str, CatalogueEntry]:
    """Entries by name, read-only. Raises ValueError if two have the same name."""
    by_name: dict[str, CatalogueEntry] = {}
    for entry in entries:
        if entry.model_id in by_name:
            raise ValueError(f"two models are named {entry.model_id!r}")
        by_name[entry.model_id] = entry
    return MappingProxyType(by_name)


CATALOGUE: Mapping[str, CatalogueEntry] = index(_ENTRIES)
