"""Full-size architectures with random weights in the real file formats: speed does not depend on what they learnt.

python -m bench.weights FOLDER                          # yolov8n.pt; serve it with ULTRALYTICS_CACHE_DIR=FOLDER
python -m bench.weights FOLDER --name blip-vqa-base     # a folder; engine.toml: weights = "FOLDER/blip-vqa-base"
"""

from __future__ import annotations

import argparse
import os
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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


_WIDE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
_BLIPS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "blip-vqa-base": ("BlipForQuestionAnswering", {}),
    "blip-image-captioning-base": ("BlipForConditionalGeneration", {}),
    "blip-image-captioning-large": ("BlipForConditionalGeneration", _WIDE),
}
"""The network's class, and how its vision model differs from BlipConfig's own, which is ViT-B/16 at 384 pixels."""
_NUM_WORDS = 30_522


def random_blip(folder: Path, name: str = "blip-vqa-base") -> Path:
    """The folder `folder`/`name` as on the hub, made once: the released sizes with seeded random weights.

    The vocabulary has the released one's size and special tokens; besides single letters, which spell any question,
    its words are made up.
    """
    target = folder / name
    if target.exists():
        return target
    import torch
    import transformers

    architecture, vision = _BLIPS[name]
    config = transformers.BlipConfig(
        vision_config={"image_size": 384, **vision},
        text_config={"num_attention_heads": 12, "encoder_hidden_size": vision.get("hidden_size", 768)},
    )
    torch.manual_seed(0)
    network = getattr(transformers, architecture)(config)
    with torch.no_grad():  # wider than the library starts training with, else every image gets the same words
        for part in network.parameters():
            if part.ndim > 1:
                part.mul_(2.5)
    partial = folder / f"{name}.partial"
    tokenizer = transformers.BertTokenizer(vocab=_vocabulary())
    size = {"height": 384, "width": 384}
    transformers.BlipProcessor(transformers.BlipImageProcessor(size=size), tokenizer).save_pretrained(partial)
    network.save_pretrained(partial)
    return partial.rename(target)


def _vocabulary() -> dict[str, int]:
    """Word to number, special tokens where BERT has them."""
    letters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    words = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += [*letters, *(f"##{letter}" for letter in letters)]
    words += [f"word{i}" for i in range(_NUM_WORDS - len(words))]
    return {word: index for index, word in enumerate(words)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", default="yolov8n")
    arguments = parser.parse_args()
    make = random_blip if arguments.name in _BLIPS else random_yolo
    print(make(arguments.folder, arguments.name))
