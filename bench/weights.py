"""Full-size architectures with random weights in the real file formats: speed does not depend on what they learnt.

python -m bench.weights FOLDER        # writes yolov8n.pt; serve it with ULTRALYTICS_CACHE_DIR=FOLDER
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def random_yolo(folder: Path, name: str = "yolov8n") -> Path:
    """`name`.pt in `folder`, made once: the architecture of that name with seeded random weights."""
    path = folder / f"{name}.pt"
    if path.exists():
        return path
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    import torch
    from ultralytics import YOLO

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    YOLO(f"{name}.yaml", verbose=False).save(path)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", default="yolov8n")
    arguments = parser.parse_args()
    print(random_yolo(arguments.folder, arguments.name))
