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

from models.blip_traits import BlipTraits
from models.errors import UnsupportedModelError, WeightsInvalidError, WeightsMismatchError
from models.normalisation import Normalisation
from models.spec import Task
from models.tokens import Tokens

TASKS: Mapping[str, Task] = MappingProxyType(
    {"BlipForQuestionAnswering": "vqa", "BlipForConditionalGeneration": "caption"}
)
"""What a network is for, by the name of its class in `config.json`."""
_PLAIN: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        **dict.fromkeys(("repetition_penalty", "encoder_repetition_penalty", "length_penalty"), (None, 1.0)),
        **dict.fromkeys(("no_repeat_ngram_size", "encoder_no_repeat_ngram_size"), (None, 0)),
        **dict.fromkeys(("min_length", "min_new_tokens"), (None, 0)),
        **dict.fromkeys(("early_stopping", "remove_invalid_values", "renormalize_logits"), (None, False)),
        **dict.fromkeys(
            ("bad_words_ids", "sequence_bias", "suppress_tokens", "begin_suppress_tokens"), (None,)
        ),
        **dict.fromkeys(("forced_bos_token_id", "forced_eos_token_id", "force_words_ids"), (None,)),
        **dict.fromkeys(("constraints", "exponential_decay_length_penalty", "guidance_scale"), (None,)),
    }
)
"""What `config.json` may say of how texts are searched, besides what requests say: nothing that changes a text."""


@dataclass(frozen=True, slots=True)
class BlipCheckpoint:
    """What a folder holds. `network` is float32 on the CPU in eval mode."""

    network: Any
    traits: BlipTraits
    tokens: Tokens
    normalisation: Normalisation


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
    _require_plain_search(folder, network.text_decoder.generation_config)
    cleans_up = bool(tokenizer.clean_up_tokenization_spaces)
    traits = _traits(network.config, found, cleans_up)
    return BlipCheckpoint(
        network.eval(), traits, Tokens(tokenizer.backend_tokenizer, cleans_up), normalisation
    )


def _task(folder: Path, config: Mapping[str, Any]) -> Task:
    architectures = config.get("architectures") or []
    for name in architectures:
        if name in TASKS:
            return TASKS[name]
    raise UnsupportedModelError(f"{folder} holds {architectures}, served are {' and '.join(TASKS)}")


def _require_plain_search(folder: Path, config: Any) -> None:
    for name, plain in _PLAIN.items():
        asked = getattr(config, name, None)
        if asked not in plain:
            raise UnsupportedModelError(
                f"{folder} wants {name} to be {asked!r} when a text is searched, not served"
            )


def _traits(config: Any, task: Task, cleans_up: bool) -> BlipTraits:
    text = config.text_config
    return BlipTraits(
        task=task,
        image_size=int(config.vision_config.image_size),
        first=int(text.bos_token_id),
        last=int(text.sep_token_id),
        padding=int(text.pad_token_id),
        max_tokens=int(text.max_position_embeddings),
        layers=int(text.num_hidden_layers),
        heads=int(text.num_attention_heads),
        head_width=int(text.hidden_size) // int(text.num_attention_heads),
        cleans_up=cleans_up,
    )


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
