"""Reading a BLIP folder in Hugging Face layout: which of the two networks it is, and the network itself.

From safetensors and text files only, no code from the folder. In a worker; torch is imported inside.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from models.errors import UnsupportedModelError, WeightsInvalidError, WeightsMismatchError
from models.normalisation import Normalisation
from models.spec import Task

TASKS: Mapping[str, Task] = MappingProxyType(
    {"BlipForQuestionAnswering": "vqa", "BlipForConditionalGeneration": "caption"}
)
"""What a network is for, by the name of its class in `config.json`."""


@dataclass(frozen=True, slots=True)
class BlipCheckpoint:
    """What a folder holds. `network` is float32 on the CPU in eval mode; `image_size` the side of its square input
    in pixels."""

    task: Task
    network: Any
    tokenizer: Any
    normalisation: Normalisation
    image_size: int


def read_blip(folder: Path, task: Task | None = None) -> BlipCheckpoint:
    """Read `folder`; `task` is what the operator says it is for, None to take what it is.

    Raises WeightsMismatchError if it is for another task; UnsupportedModelError if it is another network or wants
    images of another size than its network takes; WeightsInvalidError if it is damaged or lacks something.
    """
    try:
        found = _task(folder, json.loads((folder / "config.json").read_text("utf-8")))
        if task not in (None, found):
            raise WeightsMismatchError(f"{folder} holds a network for {found}, but the settings say {task}")
        network, report = _read_network(folder, found)
        tokenizer = _read_tokenizer(folder)
    except (MemoryError, UnsupportedModelError, WeightsMismatchError):
        raise
    except Exception as error:  # foreign bytes can fail in any way there is
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise WeightsInvalidError(f"{folder} is not a loadable model: {reason}") from error
    if report["missing_keys"]:  # the library would fill them with random numbers
        raise WeightsInvalidError(f"{folder} lacks {len(report['missing_keys'])} tensors of its network")
    normalisation = Normalisation.read(folder)
    image_size = int(network.config.vision_config.image_size)
    if normalisation.size != (image_size, image_size):
        raise UnsupportedModelError(f"{folder}: images of {normalisation.size}, a network for {image_size}")
    return BlipCheckpoint(found, network.eval(), tokenizer, normalisation, image_size)


def _task(folder: Path, config: Mapping[str, Any]) -> Task:
    architectures = config.get("architectures") or []
    for name in architectures:
        if name in TASKS:
            return TASKS[name]
    raise UnsupportedModelError(f"{folder} holds {architectures}, served are {' and '.join(TASKS)}")


def _read_network(folder: Path, task: Task) -> tuple[Any, Mapping[str, Any]]:
    """The network and the library's report of what it did not find."""
    from transformers import BlipForConditionalGeneration, BlipForQuestionAnswering
    from transformers.utils import logging

    logging.disable_progress_bar()  # nobody watches a worker's terminal
    read: Any = (BlipForQuestionAnswering if task == "vqa" else BlipForConditionalGeneration).from_pretrained
    network, report = read(
        folder, local_files_only=True, use_safetensors=True, dtype="float32", output_loading_info=True
    )
    return network, report


def _read_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    read: Any = AutoTokenizer.from_pretrained
    return read(folder, local_files_only=True, trust_remote_code=False)
