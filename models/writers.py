"""The two halves of BLIP that write: an answer to a question, or a caption. In a worker; torch is imported inside.

A batch's rows get what they would get alone; for that, and because the library's own `generate` does not give it
(its decoder looks at the padding of shorter questions), the networks are put together here from their parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from models.errors import InvalidParameterError
from models.spec import Task

if TYPE_CHECKING:
    import torch

DEFAULT_PROMPT = "what is in the picture?"


@dataclass(frozen=True, slots=True)
class Search:
    """How a batch's texts are searched: longest text in tokens, beams (1 is greedy)."""

    max_new_tokens: int
    num_beams: int


class Writer(Protocol):
    """A network and its tokenizer, ready to write about images that were encoded already."""

    task: Task

    def check(self, prompt: str, max_new_tokens: int) -> None:
        """Raises InvalidParameterError for a prompt that does not fit into the network."""

    def write(self, images: torch.Tensor, prompts: Sequence[str], search: Search) -> list[str]:
        """One text per prompt, the same that it gets alone; inside `torch.inference_mode`.

        `images` is float32 of (prompts, patches, width), or of (1, patches, width) if all prompts are about one
        image: its keys and values are then computed once and not once per prompt.
        """

    def members(self, prompt: str, text: str) -> Mapping[str, str]:
        """What a reply says of one text."""


class Answerer:
    """`BlipForQuestionAnswering`: an encoder reads the question beside the image, a decoder reads that and answers."""

    task: Task = "vqa"

    def __init__(self, network: Any, tokenizer: Any) -> None:
        self._encoder = network.text_encoder
        self._decoder = network.text_decoder
        self._tokenizer = tokenizer
        self._config = network.config.text_config
        _respect_masks(self._decoder)

    def check(self, prompt: str, max_new_tokens: int) -> None:
        num_tokens = len(self._tokenizer(prompt)["input_ids"])
        if num_tokens > self._config.max_position_embeddings:
            raise InvalidParameterError(
                f"the prompt has {num_tokens} tokens, at most {self._config.max_position_embeddings} fit"
            )

    def write(self, images: torch.Tensor, prompts: Sequence[str], search: Search) -> list[str]:
        import torch

        questions = [prompt or DEFAULT_PROMPT for prompt in prompts]
        text = self._tokenizer(questions, padding=True, return_tensors="pt").to(images.device)
        # No mask for the image: all of it is looked at.
        asked = self._encoder(
            input_ids=text["input_ids"], attention_mask=text["attention_mask"], encoder_hidden_states=images
        ).last_hidden_state
        start = torch.full((len(questions), 1), self._config.bos_token_id, device=images.device)
        tokens = self._decoder.generate(
            input_ids=start,
            attention_mask=torch.ones_like(start),
            encoder_hidden_states=asked,
            encoder_attention_mask=text["attention_mask"],
            **_options(self._config, search),
        )
        texts: list[str] = self._tokenizer.batch_decode(tokens[:, 1:], skip_special_tokens=True)
        return texts

    def members(self, prompt: str, text: str) -> Mapping[str, str]:
        return {"answer": text, "prompt": prompt or DEFAULT_PROMPT}


class Captioner:
    """`BlipForConditionalGeneration`: one decoder continues the prompt, which is part of the caption.

    As in the library the prompt's last token (the end of a text) is left out and its first becomes the token that
    begins a caption. Prompts of different lengths are padded on the left, where the mask hides it and positions
    are counted from the first token that is not padding.
    """

    task: Task = "caption"

    def __init__(self, network: Any, tokenizer: Any) -> None:
        self._decoder = network.text_decoder
        self._tokenizer = tokenizer
        self._config = network.config.text_config

    def check(self, prompt: str, max_new_tokens: int) -> None:
        num_tokens = len(self._prefix(prompt))
        most = self._config.max_position_embeddings
        if num_tokens + max_new_tokens - 1 > most:  # the last token written is not read again
            raise InvalidParameterError(
                f"{num_tokens} tokens of prompt and {max_new_tokens} more, {most} fit"
            )

    def _prefix(self, prompt: str) -> list[int]:
        tokens: list[int] = self._tokenizer(prompt)["input_ids"]
        return [self._config.bos_token_id, *tokens[1:-1]]

    def write(self, images: torch.Tensor, prompts: Sequence[str], search: Search) -> list[str]:
        import torch

        if search.num_beams > 1:  # beams change places, and with them the rows of keys and values
            images = images.expand(len(prompts), -1, -1)
        prefixes = [self._prefix(prompt) for prompt in prompts]
        longest = max(map(len, prefixes))
        gaps = [longest - len(prefix) for prefix in prefixes]
        pad = self._config.pad_token_id
        given = torch.tensor(
            [[pad] * gap + prefix for gap, prefix in zip(gaps, prefixes, strict=True)], device=images.device
        )
        mask = torch.tensor([[0] * gap + [1] * (longest - gap) for gap in gaps], device=images.device)
        tokens = self._decoder.generate(
            input_ids=given,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            encoder_hidden_states=images,
            **_options(self._config, search),
        )
        texts: list[str] = self._tokenizer.batch_decode(
            [row[gap:] for row, gap in zip(tokens.tolist(), gaps, strict=True)], skip_special_tokens=True
        )
        return texts

    def members(self, prompt: str, text: str) -> Mapping[str, str]:
        return {"caption": text, "prompt": prompt} if prompt else {"caption": text}


def _options(config: Any, search: Search) -> dict[str, Any]:
    """Of the library's `generate`. An answer is at most as long as the network has positions."""
    return {
        "eos_token_id": config.sep_token_id,
        "pad_token_id": config.pad_token_id,
        "max_new_tokens": min(search.max_new_tokens, config.max_position_embeddings),
        "num_beams": search.num_beams,
        "do_sample": False,
    }


def _respect_masks(decoder: Any) -> None:
    """Make the decoder's attention to the question heed the question's mask.

    The library (5.23) gives that mask to its cross-attention as `attention_mask`, where it is not read; it is
    `encoder_attention_mask` that counts there. Without padding nothing changes.
    """

    def rename(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if kwargs.get("encoder_attention_mask") is None:
            kwargs["encoder_attention_mask"] = kwargs.get("attention_mask")
        return args, kwargs

    for layer in decoder.bert.encoder.layer:
        layer.crossattention.self.register_forward_pre_hook(rename, with_kwargs=True)
