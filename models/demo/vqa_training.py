"""The training of `shapes-vqa`, step by step: first to see, with small extra heads, then to see and answer.

Each step's pictures and questions depend on the recipe's seed and the step's number alone, so a run that is stopped
and resumed goes the same way as one that is not.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.demo import vqa_auxiliary as auxiliary
from models.demo.muon import Muon
from models.demo.questions import KINDS, Question, Thing, ask
from models.demo.vqa_architecture import PATCH_SIZE, make_network, mask_cross_attention
from models.demo.vqa_dataset import IGNORED, Packed, Pictures, pack, turn_grid, turn_thing
from models.demo.vqa_measure import ask_about

if TYPE_CHECKING:
    import torch

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
_FORBIDDEN = (
    -1e4
)  # added to an attention score; not minus infinity, since a padded row may look at nothing else


@dataclass(frozen=True)
class Phase:
    """One stretch of training, `batch` pictures a step. Rates are Muon's; AdamW's are `Recipe.adam_share` of them."""

    steps: int
    batch: int
    first_rate: float
    last_rate: float
    answers: bool


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, next to the code and the versions of the libraries."""

    num_train: int = 10_000
    num_val: int = 256
    num_test: int = 600
    num_questions: int = 8
    seed: int = 11
    adam_share: float = 0.1
    weight_decay: float = 0.02
    warmup_steps: int = 60
    auxiliary_weight: float = 0.5
    phases: tuple[Phase, ...] = (
        Phase(1000, 64, 0.02, 0.005, answers=False),
        Phase(1400, 64, 0.02, 0.0002, answers=True),
        Phase(1500, 64, 0.015, 0.0002, answers=True),
    )


#: How often each kind is asked while training: the hard ones more.
KIND_WEIGHTS = {
    "colour": 1,
    "shape": 1,
    "count": 2,
    "presence": 1.5,
    "relation": 2.5,
    "where": 1,
    "caption": 0.6,
}


@dataclass(frozen=True)
class Batch:
    """What one step learns from. Pixels are float32 (n, 3, size, size), normalised as the folder's processor does."""

    pixels: torch.Tensor
    truth: auxiliary.Truth
    packed: Packed | None


def normalise(pixels: Any, device: str) -> torch.Tensor:
    """Pictures (n, size, size, 3) uint8 as the network takes them: (n, 3, size, size) float32."""
    import torch

    picture = torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (_MEAN, _STD))
    return ((picture - mean) / std).contiguous()


def sample_patches(pictures: Pictures) -> torch.Tensor:
    """All patches (n, 3, size, size) of up to 512 pictures, normalised."""
    picture = normalise(pictures.pixels[:512], "cpu")
    patches = picture.unfold(2, PATCH_SIZE, PATCH_SIZE).unfold(3, PATCH_SIZE, PATCH_SIZE)
    return patches.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)


def _to(tensors: Any, device: str) -> Any:
    return type(tensors)(*(getattr(tensors, field.name).to(device) for field in fields(tensors)))


def draw_questions(rng: np.random.Generator, seen: tuple[Thing, ...], count: int) -> list[Question]:
    """Up to `count` questions about one picture, at least one: anything can be counted. At most one long answer."""
    weights = np.array([KIND_WEIGHTS[kind] for kind in KINDS])
    drawn = [str(kind) for kind in rng.choice(KINDS, count, p=weights / weights.sum())]
    kinds = ["count", *(kind for kind in drawn[1:] if kind != "caption"), *sorted({"caption"} & set(drawn))]
    return [question for kind in kinds if (question := ask(rng, kind, seen)) is not None]


def draw_batch(pictures: Pictures, recipe: Recipe, phase: int, step: int, device: str) -> Batch:
    """The batch of this step: random pictures, turned in all eight ways, with fresh questions."""
    import torch

    rng = np.random.default_rng([recipe.seed, phase, step])
    chosen = rng.choice(len(pictures.things), recipe.phases[phase].batch, replace=False)
    pixels, shares, seen = [], [], []
    for number, part in enumerate(np.array_split(chosen, 8)):
        pixels.append(turn_grid(pictures.pixels[part], number))
        shares.append(turn_grid(pictures.shares[part], number))
        seen += [tuple(turn_thing(thing, number) for thing in pictures.things[index]) for index in part]
    packed = None
    if recipe.phases[phase].answers:
        packed = _to(pack([draw_questions(rng, each, recipe.num_questions) for each in seen], rng), device)
    known = _to(auxiliary.truth(np.concatenate(shares), seen), device)
    with torch.no_grad():
        return Batch(normalise(np.concatenate(pixels), device), known, packed)


def answer_logits(network: Any, states: torch.Tensor, packed: Packed) -> torch.Tensor:
    """Scores of the next token (pictures, answer tokens, words), each question seen by itself and its answer only.

    The network must have gone through `mask_cross_attention`.
    """
    import torch

    asked, answers = packed.question_groups, packed.answer_groups

    def mask(allowed: torch.Tensor) -> torch.Tensor:
        return torch.where(allowed, 0.0, _FORBIDDEN).unsqueeze(1)

    order = torch.arange(answers.shape[1], device=answers.device)
    questions = network.text_encoder(
        input_ids=packed.question_ids,
        position_ids=packed.question_positions,
        attention_mask=mask(asked[:, :, None] == packed.question_keys[:, None]),
        encoder_hidden_states=states,
    ).last_hidden_state
    logits: torch.Tensor = network.text_decoder(
        input_ids=packed.answer_ids,
        position_ids=packed.answer_positions,
        attention_mask=mask((answers[:, :, None] == answers[:, None]) & (order[:, None] >= order)),
        encoder_hidden_states=questions,
        encoder_attention_mask=mask(answers[:, :, None] == asked[:, None]),
        use_cache=False,
    ).logits
    return logits


def step_losses(network: Any, heads: Any, batch: Batch, weight: float) -> dict[str, torch.Tensor]:
    """The losses of one batch, already weighted; their sum is what is minimised."""
    from torch.nn import functional

    states = network.vision_model(batch.pixels).last_hidden_state
    parts = auxiliary.losses(heads, states, batch.truth)
    if batch.packed is None:
        return parts
    parts = {name: weight * part for name, part in parts.items()}
    logits = answer_logits(network, states, batch.packed)
    parts["answer"] = functional.cross_entropy(
        logits.flatten(0, 1), batch.packed.targets.flatten(), ignore_index=IGNORED
    )
    return parts


class Training:
    """Network, heads and optimisers in the midst of a recipe; can be saved and resumed at any step."""

    def __init__(self, recipe: Recipe, pictures: Pictures, device: str) -> None:
        import torch

        torch.manual_seed(recipe.seed)
        self.recipe, self.device, self._pictures = recipe, device, pictures
        self.network = make_network(sample_patches(pictures)).to(device).train()
        mask_cross_attention(self.network)
        self.heads = auxiliary.make_heads().to(device)
        self.phase = self.step = 0
        self.seconds = 0.0
        """That the training took, stops not counted."""
        self._start_phase()

    def _start_phase(self) -> None:
        import torch

        answers = self.recipe.phases[self.phase].answers
        part = self.network if answers else self.network.vision_model
        is_matrix = {
            name: weight.ndim == 2 and "embeddings" not in name for name, weight in part.named_parameters()
        }
        weights = dict(part.named_parameters())
        self._muon = Muon([weights[n] for n, yes in is_matrix.items() if yes], self.recipe.weight_decay)
        others = [weights[name] for name, yes in is_matrix.items() if not yes]
        self._adam = torch.optim.AdamW(
            [*others, *self.heads.parameters()], weight_decay=0.0, betas=(0.9, 0.98)
        )

    def _rate(self) -> float:
        phase = self.recipe.phases[self.phase]
        progress = self.step / phase.steps
        cosine = (1 + math.cos(math.pi * progress)) / 2
        rate = phase.last_rate + (phase.first_rate - phase.last_rate) * cosine
        return rate * min(1.0, (self.step + 1) / self.recipe.warmup_steps)

    def advance(self) -> dict[str, float]:
        """One step. Returns its losses by name."""
        import torch

        started = time.monotonic()
        rate = self._rate()
        batch = draw_batch(self._pictures, self.recipe, self.phase, self.step, self.device)
        parts = step_losses(self.network, self.heads, batch, self.recipe.auxiliary_weight)
        self._adam.zero_grad(set_to_none=True)
        self.network.zero_grad(set_to_none=True)
        torch.stack(list(parts.values())).sum().backward()
        for group in self._adam.param_groups:
            group["lr"] = rate * self.recipe.adam_share
            torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
        self._adam.step()
        self._muon.step(rate)
        self.step += 1
        self._go_on()
        self.seconds += time.monotonic() - started
        return {name: float(part.detach()) for name, part in parts.items()}

    def _go_on(self) -> None:
        """To the next phase, if this one is over and there is one."""
        if self.is_done and self.phase + 1 < len(self.recipe.phases):
            self.phase, self.step = self.phase + 1, 0
            self._start_phase()

    @property
    def is_done(self) -> bool:
        """Whether the last step of the last phase was made."""
        return self.step == self.recipe.phases[self.phase].steps

    def save(self, path: Path) -> None:
        """Write everything that `restore` needs."""
        import torch

        parts = {
            "network": self.network.state_dict(),
            "heads": self.heads.state_dict(),
            "muon": self._muon.state(),
        }
        where = {"phase": self.phase, "step": self.step, "seconds": self.seconds}
        torch.save({**parts, **where, "adam": self._adam.state_dict()}, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def restore(self, path: Path) -> None:
        """Go on from what `save` wrote with the same recipe, or one whose first phases were the same."""
        import torch

        saved = torch.load(path, map_location=self.device, weights_only=True)
        self.phase, self.step, self.seconds = saved["phase"], saved["step"], saved["seconds"]
        self._start_phase()
        self.network.load_state_dict(saved["network"])
        self.heads.load_state_dict(saved["heads"])
        self._adam.load_state_dict(saved["adam"])
        self._muon.restore(saved["muon"])
        self._go_on()


def quick_accuracy(network: Any, pictures: Pictures, seed: int, device: str) -> dict[str, float]:
    """Shares of exact answers by kind, without generating: right if every token is right after the right ones."""
    import torch

    hits: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    asked = ask_about(pictures, seed)
    with torch.inference_mode():
        for first in range(0, len(asked), 64):
            part = slice(first, first + 64)
            packed = _to(pack(asked[part]), device)
            states = network.vision_model(normalise(pictures.pixels[part], device)).last_hidden_state
            wrong = (answer_logits(network, states, packed).argmax(-1) != packed.targets) & (
                packed.targets != IGNORED
            )
            for row, questions in enumerate(asked[part]):
                for group, question in enumerate(questions, 1):
                    is_wrong = wrong[row][packed.answer_groups[row] == group].any()
                    hits[question.kind].append(not bool(is_wrong))
    return {kind: round(float(np.mean(each)), 3) for kind, each in hits.items()}
