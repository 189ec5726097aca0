"""The models this engine knows by name. Plain data without torch, read by the front and the command line.

A request can only name an entry; which file that means is decided here or by the operator. A new model is a
new row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from models.spec import Family, Precision, RuntimeName, Task

Source = Literal["package", "ultralytics", "hub", "file"]
"""Where an entry's weights come from.

package      a file inside this package, `weights` is its path below `models/`
ultralytics  an asset of the Ultralytics release, `weights` is its file name
hub          a Hugging Face repository, `weights` is its id
file         a file (or, for BLIP, a folder) of the operator's, `weights` is its path
"""

FACTORIES: Mapping[Family, str] = MappingProxyType(
    {"yolo": "models.guarded:load_yolo", "blip": "models.guarded:load_blip"}
)

PRELOAD: Mapping[Family, tuple[str, ...]] = MappingProxyType(
    {
        "yolo": ("torch", "ultralytics.nn.tasks", "ultralytics.utils.nms", "models.guarded"),
        "blip": (
            "torch",
            "transformers.models.blip.modeling_blip",
            "transformers.models.auto.tokenization_auto",
            "models.guarded",
        ),
    }
)
"""What a family's workers import before they are forked. None of it touches CUDA or runs an operator."""

LIGHT_PRELOAD = ("models.guarded", "openvino", "cv2")
"""The same where a converted network is expected: only a worker that has to convert first imports the rest itself.
Alike for all families, so that they share a forkserver.

`models.guarded` stands first, because it imports `models.runtimes`, which keeps openvino from reporting its users.
"""


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One model by name. `sha256` is the weights file's (`model.safetensors` for BLIP), None if not pinned; `task` is
    None where only the weights know.

    `series` names what differs in size only, with the task's suffix: `yolov8-seg`, for `yolov8n-seg` to `yolov8x-seg`.
    `published_size` is the side in pixels of the input that the published weights were made for. `task` None: only the
    weights know. `imgsz` is the square input size in pixels, None for the one stored with the
    weights. `end2end` chooses between the two heads that some YOLO networks have, None as the library does. `runtime`
    and `precision` None: as for all models.
    """

    model_id: str
    family: Family
    task: Task | None
    source: Source
    weights: str
    description: str
    sha256: str | None = None
    revision: str | None = None
    imgsz: int | None = None
    end2end: bool | None = None
    load_at_start: bool = False
    series: str = ""
    published_size: int | None = None
    runtime: RuntimeName | None = None
    precision: Precision | None = None

    @property
    def row(self) -> str:
        """Which row of the tables of models it is in: its series, or where it has none its own name."""
        return self.series or self.model_id

    @property
    def factory(self) -> str:
        """Import string of the function that loads this entry in a worker."""
        return FACTORIES[self.family]

    def preload(self, runtime: RuntimeName, device: str) -> tuple[str, ...]:
        """Modules that this entry's workers need on `device` ("cpu", "cuda:0") with `runtime`."""
        is_light = device == "cpu" and runtime in ("auto", "openvino")
        return LIGHT_PRELOAD if is_light else PRELOAD[self.family]

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
            "end2end": self.end2end,
        }


def operator_entry(
    model_id: str,
    path: Path,
    *,
    sha256: str | None = None,
    family: Family = "yolo",
    task: Task | None = None,
    imgsz: int | None = None,
    end2end: bool | None = None,
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
        end2end=end2end,
    )


_PURPOSES: Mapping[Task, str] = {
    "detect": "finds objects of 80 COCO classes",
    "segment": "outlines objects of 80 COCO classes",
    "pose": "finds people and 17 keypoints of each",
    "obb": "finds objects of 15 DOTA classes in aerial images, with their angle",
    "classify": "tells which of 1000 ImageNet classes an image is of",
}
_SUFFIXES: Mapping[Task, str] = {
    "detect": "",
    "segment": "-seg",
    "pose": "-pose",
    "obb": "-obb",
    "classify": "-cls",
}
_SIZES: Mapping[Task, int] = {"detect": 640, "segment": 640, "pose": 640, "obb": 1024, "classify": 224}
_ALL: tuple[Task, ...] = ("detect", "segment", "pose", "obb", "classify")
_DETECT: tuple[Task, ...] = ("detect",)
# What stands in the library's list of release assets (`GITHUB_ASSETS_NAMES`); a test compares.
_FAMILIES: tuple[tuple[str, str, str, tuple[Task, ...]], ...] = (
    ("yolov8{}", "YOLOv8", "nsmlx", _ALL),
    ("yolo11{}", "YOLO11", "nsmlx", _ALL),
    ("yolo12{}", "YOLO12", "nsmlx", _DETECT),
    ("yolo26{}", "YOLO26", "nsmlx", _ALL),
    ("yolov5{}u", "YOLOv5u", "nsmlx", _DETECT),
    ("yolov9{}", "YOLOv9", "tsmce", _DETECT),
    ("yolov9{}", "YOLOv9", "ce", ("segment",)),
    ("yolov10{}", "YOLOv10", "nsmblx", _DETECT),
    ("rtdetr-{}", "RT-DETR", "lx", _DETECT),
)


def _released() -> Iterator[CatalogueEntry]:
    """Every size of every family for every task that the library publishes weights for."""
    for stem, name, sizes, tasks in _FAMILIES:
        for task, size in product(tasks, sizes):
            model_id = stem.format(size) + _SUFFIXES[task]
            yield CatalogueEntry(
                model_id,
                "yolo",
                task,
                "ultralytics",
                f"{model_id}.pt",
                f"{name} of size {size}, {_PURPOSES[task]}.",
                series=stem.format("").rstrip("-") + _SUFFIXES[task],
                published_size=_SIZES[task],
            )


_ENTRIES: tuple[CatalogueEntry, ...] = (
    CatalogueEntry(
        "shapes-detect",
        "yolo",
        "detect",
        "package",
        "demo/shapes-detect.pt",
        "Coloured shapes: a small demo detector that ships with the engine.",
        imgsz=320,
        load_at_start=True,
        published_size=320,
    ),
    CatalogueEntry(
        "shapes-vqa",
        "blip",
        "vqa",
        "package",
        "demo/shapes-vqa",
        "Questions about coloured shapes: a small demo model that ships with the engine.",
        imgsz=96,
        load_at_start=True,
        published_size=96,
    ),
    *_released(),
    CatalogueEntry(
        "blip-vqa-base",
        "blip",
        "vqa",
        "hub",
        "Salesforce/blip-vqa-base",
        "BLIP base, answers questions about an image.",
        published_size=384,
    ),
    CatalogueEntry(
        "blip-image-captioning-base",
        "blip",
        "caption",
        "hub",
        "Salesforce/blip-image-captioning-base",
        "BLIP base, describes an image, or continues a description.",
        # The main branch has this network as a pickle only; the same tensors as safetensors are proposed here.
        revision="refs/pr/50",
    ),
    CatalogueEntry(
        "blip-image-captioning-large",
        "blip",
        "caption",
        "hub",
        "Salesforce/blip-image-captioning-large",
        "BLIP large, describes an image, or continues a description.",
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
