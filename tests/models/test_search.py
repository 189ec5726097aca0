"""Against the library's own search, over a decoder whose scores are made up. Its texts are tested in test_blip.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from models.answers import Pixels
from models.decoding import Decoding
from models.runtimes.blip_runtime import Floats, LookedAt, Numbers, Past
from models.runtimes.runtime import Array
from models.search import Search

NUM_WORDS, LAST, PADDING = 30, 3, 0
LONGEST = 9


class Dice:
    """A runtime whose scores follow from the last two tokens of a row, which is what it keeps."""

    name = precision = "dice"

    def __init__(self, seed: int, likes_to_end: float) -> None:
        rng = np.random.default_rng(seed)
        self.scores = rng.normal(size=(NUM_WORDS, NUM_WORDS, NUM_WORDS)).astype(np.float32) * 2
        self.scores[:, :, LAST] += likes_to_end
        self.num_steps = 0

    def see(self, pixels: Sequence[Pixels]) -> list[Array]:
        raise AssertionError("nobody shows pictures to a die")

    def look_at(self, images: Sequence[Array]) -> LookedAt:
        return ()

    def read(self, ids: Numbers, mask: Floats, images: Sequence[Array]) -> LookedAt:
        return ()

    def step(
        self, ids: Numbers, positions: Numbers, bias: Floats, past: Past | None, looked_at: LookedAt
    ) -> tuple[Floats, Past]:
        self.num_steps += 1
        kept = ids if past is None else np.concatenate([np.asarray(past[0], np.int64), ids], 1)
        assert (positions[:, -1] == kept.shape[1] - 1).all()
        floats = kept.astype(np.float32)
        return self.scores[kept[:, -2] if kept.shape[1] > 1 else 0, kept[:, -1]], (floats, floats)

    def reordered(self, past: Past, rows: Numbers) -> Past:
        return past[0][rows], past[1][rows]


def library(dice: Dice, start: int, search: Search) -> list[int]:
    """What `generate` writes after one token."""
    import torch
    from transformers import GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
    from transformers.modeling_outputs import CausalLMOutput

    class Network(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
        config_class = PretrainedConfig
        main_input_name = "input_ids"

        def __init__(self) -> None:
            super().__init__(PretrainedConfig(vocab_size=NUM_WORDS))
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.generation_config = GenerationConfig()

        def forward(self, input_ids: Any, **rest: Any) -> Any:
            before = input_ids[:, -2] if input_ids.shape[1] > 1 else torch.zeros_like(input_ids[:, -1])
            scores = torch.from_numpy(dice.scores)[before, input_ids[:, -1]]
            return CausalLMOutput(logits=scores[:, None])

    tokens = Network().generate(
        torch.tensor([[start]]), attention_mask=torch.ones(1, 1, dtype=torch.int64), do_sample=False, use_cache=False,
        max_new_tokens=search.max_new_tokens, num_beams=search.num_beams, eos_token_id=LAST, pad_token_id=PADDING,
    )  # fmt: skip
    written: list[int] = tokens[0, 1:].tolist()
    return written


@pytest.mark.parametrize("likes_to_end", [-2.0, 2.0, 6.0])
@pytest.mark.parametrize("num_beams", [1, 2, 3, 5])
def test_texts_are_those_of_the_library_whoever_shares_the_batch(num_beams: int, likes_to_end: float) -> None:
    dice = Dice(num_beams, likes_to_end)
    search = Search(LONGEST, num_beams)
    starts = np.arange(4, 12)
    decoding = Decoding(dice, (), np.ones((len(starts), 1), np.bool_))
    found = search.run(decoding, starts[:, None], LAST)
    assert found == [library(dice, int(start), search) for start in starts]
    lengths = {len(row) for row in found}
    assert (max(lengths) == LONGEST) if likes_to_end < 0 else (min(lengths) < LONGEST)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_nothing_is_read_that_no_text_needs(num_beams: int) -> None:
    """A text of one token takes one step; and a batch whose texts ended goes on no further."""
    dice = Dice(0, 0.0)
    Search(1, num_beams).run(Decoding(dice, (), np.ones((2, 1), np.bool_)), np.array([[4], [5]]), LAST)
    assert dice.num_steps == 1
    certain = Dice(0, 100.0)
    found = Search(LONGEST, 1).run(Decoding(certain, (), np.ones((1, 1), np.bool_)), np.array([[4]]), LAST)
    assert (found, certain.num_steps) == ([[LAST]], 1)
