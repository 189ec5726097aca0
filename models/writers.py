"""The two halves of BLIP that write: an answer to a question, or a caption. No torch.

A batch's rows get what they would get alone, which the library's own `generate` does not give: its decoder looks at
the padding of shorter questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from models.blip_traits import BlipTraits
from models.decoding import Decoding
from models.errors import InvalidParameterError
from models.runtimes.blip_runtime import BlipRuntime, Numbers
from models.runtimes.runtime import Array
from models.search import Search
from models.spec import Task
from models.tokens import Tokens

DEFAULT_PROMPT = "what is in the picture?"


@dataclass(frozen=True, slots=True)
class Written:
    """One text. Tokens of the prompt with those that begin and end it, as the network read them; tokens written with
    the one that ends a text. `is_cut`: there was room for no more of them."""

    text: str
    num_prompt_tokens: int
    num_tokens: int
    is_cut: bool


class Writer(Protocol):
    """A network and its vocabulary, ready to write about images that were encoded already."""

    task: Task

    def check(self, prompt: str, max_new_tokens: int) -> None:
        """Raises InvalidParameterError for a prompt that does not fit into the network."""

    def write(self, images: Sequence[Array], prompts: Sequence[str], search: Search) -> list[Written]:
        """One text per prompt, the same that it gets alone. `images` are one for each prompt, or one for all, which
        is then looked at as one."""

    def members(self, prompt: str, text: str) -> Mapping[str, str]:
        """What a reply says of one text."""


class Answerer:
    """`BlipForQuestionAnswering`: an encoder reads the question beside the image, a decoder reads that and answers."""

    task: Task = "vqa"

    def __init__(self, runtime: BlipRuntime, tokens: Tokens, traits: BlipTraits) -> None:
        self._runtime = runtime
        self._tokens = tokens
        self._traits = traits

    def check(self, prompt: str, max_new_tokens: int) -> None:
        num_tokens = len(self._tokens.ids(prompt))
        if num_tokens > self._traits.max_tokens:
            raise InvalidParameterError(
                f"the prompt has {num_tokens} tokens, at most {self._traits.max_tokens} fit"
            )

    def write(self, images: Sequence[Array], prompts: Sequence[str], search: Search) -> list[Written]:
        questions = [self._tokens.ids(prompt or DEFAULT_PROMPT) for prompt in prompts]
        ids, is_token = _padded(questions, self._traits)
        asked = self._runtime.read(ids, is_token.astype(np.float32), images)
        start = np.full((len(prompts), 1), self._traits.first, np.int64)
        decoding = Decoding(self._runtime, asked, np.ones_like(start, np.bool_))
        # An answer is at most as long as the network has positions.
        fitting = Search(min(search.max_new_tokens, self._traits.max_tokens), search.num_beams)
        rows = fitting.run(decoding, start, self._traits.last)
        return [
            Written(self._tokens.text(row), len(question), len(row), row[-1] != self._traits.last)
            for question, row in zip(questions, rows, strict=True)
        ]

    def members(self, prompt: str, text: str) -> Mapping[str, str]:
        return {"answer": text, "prompt": prompt or DEFAULT_PROMPT}


class Captioner:
    """`BlipForConditionalGeneration`: one decoder continues the prompt, which is part of the caption.

    As in the library the prompt's last token (the end of a text) is left out and its first becomes the token that
    begins a caption.
    """

    task: Task = "caption"

    def __init__(self, runtime: BlipRuntime, tokens: Tokens, traits: BlipTraits) -> None:
        self._runtime = runtime
        self._tokens = tokens
        self._traits = traits

    def check(self, prompt: str, max_new_tokens: int) -> None:
        num_tokens = len(self._prefix(prompt))
        most = self._traits.max_tokens
        if num_tokens + max_new_tokens - 1 > most:  # the last token written is not read again
            raise InvalidParameterError(
                f"{num_tokens} tokens of prompt and {max_new_tokens} more, {most} fit"
            )

    def _prefix(self, prompt: str) -> list[int]:
        return [self._traits.first, *self._tokens.ids(prompt)[1:-1]]

    def write(self, images: Sequence[Array], prompts: Sequence[str], search: Search) -> list[Written]:
        prefixes = [self._prefix(prompt) for prompt in prompts]
        ids, is_token = _padded(prefixes, self._traits, on_the_left=True)
        decoding = Decoding(self._runtime, self._runtime.look_at(images), is_token)
        rows = search.run(decoding, ids, self._traits.last)
        return [
            Written(self._tokens.text(prefix + row), len(prefix), len(row), row[-1] != self._traits.last)
            for prefix, row in zip(prefixes, rows, strict=True)
        ]

    def members(self, prompt: str, text: str) -> Mapping[str, str]:
        return {"caption": text, "prompt": prompt} if prompt else {"caption": text}


def _padded(
    rows: Sequence[Sequence[int]], traits: BlipTraits, on_the_left: bool = False
) -> tuple[Numbers, npt.NDArray[np.bool_]]:
    """Rows of one length, and where they are not padding."""
    shape = len(rows), max(map(len, rows))
    ids, is_token = np.full(shape, traits.padding, np.int64), np.zeros(shape, np.bool_)
    for number, row in enumerate(rows):
        part = slice(shape[1] - len(row), None) if on_the_left else slice(len(row))
        ids[number, part] = row
        is_token[number, part] = True
    return ids, is_token
