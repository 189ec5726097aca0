"""What one row asks of a BLIP model: its prompts and how long and how widely answers are searched. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.errors import InvalidParameterError

DEFAULT_MAX_NEW_TOKENS = 20
DEFAULT_NUM_BEAMS = 1


@dataclass(frozen=True, slots=True)
class Asked:
    """One row's parameters. A blank prompt is "": a vqa model asks its default question, a captioner begins freely.

    `is_list`: the caller gave `prompts` and gets a list, else one `prompt` or none. `image_key` names the pixels:
    equal keys, equal pixels; None where nobody made one.
    """

    prompts: tuple[str, ...]
    is_list: bool
    max_new_tokens: int
    num_beams: int
    image_key: str | None

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Asked:
        """Read a row's parameters. Raises InvalidParameterError."""
        is_list = params.get("prompts") is not None
        prompts = params["prompts"] if is_list else [params.get("prompt") or ""]
        if not isinstance(prompts, list) or not prompts or not all(map(_is_text, prompts)):
            raise InvalidParameterError("prompts must be texts")
        try:
            max_new_tokens = int(params.get("max_new_tokens", DEFAULT_MAX_NEW_TOKENS))
            num_beams = int(params.get("num_beams", DEFAULT_NUM_BEAMS))
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidParameterError(f"{type(error).__name__}: {error}") from error
        if max_new_tokens < 1 or num_beams < 1:
            raise InvalidParameterError("max_new_tokens and num_beams must be at least 1")
        return cls(
            prompts=tuple(prompt if prompt.strip() else "" for prompt in prompts),
            is_list=is_list,
            max_new_tokens=max_new_tokens,
            num_beams=num_beams,
            image_key=params.get("image_key"),
        )


def _is_text(prompt: object) -> bool:
    if not isinstance(prompt, str):
        return False
    try:
        prompt.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: the tokenizer would fail the whole batch
        return False
    return True
