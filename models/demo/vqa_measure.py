"""How often a trained `shapes-vqa` is right, by kind of question, measured on the shipped folder as it is served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.demo.questions import KINDS, Question, ask
from models.demo.vqa_architecture import mask_cross_attention
from models.demo.vqa_dataset import Pictures

if TYPE_CHECKING:
    import torch

MAX_NEW_TOKENS = 24
_TIMES = {"colour": 1, "shape": 1, "count": 2, "presence": 2, "relation": 2, "where": 1, "caption": 1}


@dataclass(frozen=True)
class Accuracy:
    """Shares of exactly right answers on held-out scenes.

    `overall` is over all questions but captions. A caption is `unordered` right if it names the right shapes in any
    order.
    """

    by_kind: dict[str, float]
    num_by_kind: dict[str, int]
    overall: float
    unordered_captions: float


def ask_about(pictures: Pictures, seed: int) -> list[list[Question]]:
    """The measured questions of each picture, one or two of every kind it allows; the same on every run."""
    asked = []
    for index, seen in enumerate(pictures.things):
        rng = np.random.default_rng([seed, index])
        found = [ask(rng, kind, seen) for kind in KINDS for _ in range(_TIMES[kind])]
        asked.append(list(dict.fromkeys(question for question in found if question is not None)))
    return asked


def load(folder: Path, device: str) -> tuple[Any, Any]:
    """Network and processor of a saved folder, without the network. Raises OSError where they are not."""
    from transformers import BlipForQuestionAnswering, BlipProcessor

    read: Any = BlipForQuestionAnswering.from_pretrained
    network = read(folder, local_files_only=True, dtype="float32").to(device).eval()
    mask_cross_attention(network)
    processor: Any = BlipProcessor.from_pretrained(folder, local_files_only=True)
    return network, processor


def see(network: Any, processor: Any, pixels: Any, batch: int = 64) -> torch.Tensor:
    """The vision part's output (n, 1 + patches, width) for pictures (n, size, size, 3) uint8, already squashed."""
    import torch

    states = []
    with torch.inference_mode():
        for first in range(0, len(pixels), batch):
            part = list(pixels[first : first + batch])
            prepared = processor.image_processor(part, return_tensors="pt")["pixel_values"]
            states.append(network.vision_model(prepared.to(network.device)).last_hidden_state)
    return torch.cat(states)


def answer(network: Any, processor: Any, states: torch.Tensor, texts: Sequence[str]) -> list[str]:
    """Answers to one question per row of `states`. Shorter questions are padded, and the padding is not looked at."""
    import torch

    tokenizer, config = processor.tokenizer, network.config.text_config
    tokens = tokenizer(list(texts), padding=True, return_tensors="pt").to(network.device)
    with torch.inference_mode():
        asked = network.text_encoder(**tokens_of(tokens), encoder_hidden_states=states).last_hidden_state
        start = torch.full((len(texts), 1), config.bos_token_id, device=network.device)
        written = network.text_decoder.generate(
            input_ids=start, attention_mask=torch.ones_like(start), encoder_hidden_states=asked,
            encoder_attention_mask=tokens["attention_mask"], eos_token_id=config.sep_token_id,
            pad_token_id=config.pad_token_id, max_new_tokens=MAX_NEW_TOKENS, num_beams=1, do_sample=False,
        )  # fmt: skip
    return [text.strip() for text in tokenizer.batch_decode(written, skip_special_tokens=True)]


def tokens_of(tokens: Any) -> dict[str, Any]:
    """The two tensors that the text part takes."""
    return {name: tokens[name] for name in ("input_ids", "attention_mask")}


def _parts(caption: str) -> list[str]:
    return sorted(caption.replace(" and ", ", ").split(", "))


def measure(folder: Path, pictures: Pictures, seed: int, device: str = "cpu", batch: int = 128) -> Accuracy:
    """Ask everything about every picture and compare the answers, letter by letter."""
    network, processor = load(folder, device)
    states = see(network, processor, pictures.pixels)
    rows = [(index, each) for index, asked in enumerate(ask_about(pictures, seed)) for each in asked]
    rows.sort(
        key=lambda row: row[1].kind == "caption"
    )  # long answers together: a batch waits for its longest
    right: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    unordered: list[bool] = []
    for first in range(0, len(rows), batch):
        part = rows[first : first + batch]
        seen = states[[index for index, _ in part]]
        texts = answer(network, processor, seen, [question.text for _, question in part])
        for (_, question), text in zip(part, texts, strict=True):
            right[question.kind].append(text == question.answer)
            if question.kind == "caption":
                unordered.append(_parts(text) == _parts(question.answer))
    counted = [hit for kind in KINDS if kind != "caption" for hit in right[kind]]
    return Accuracy(
        {kind: float(np.mean(hits)) for kind, hits in right.items()},
        {kind: len(hits) for kind, hits in right.items()},
        float(np.mean(counted)),
        float(np.mean(unordered)),
    )
