"""BLIP as the pool's model: an image and a question in, an answer out. In a worker; torch is imported inside.

The network is the library's, put together here from its three parts: the library's own `generate` lets the
decoder look at the padding of shorter questions, so that an answer would depend on its batch-mates. For the
same reason see `_respect_masks`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from models.answers import Answers, Progress, Row, WarmUpRow
from models.errors import InvalidParameterError, UnsupportedModelError, WeightsInvalidError
from models.spec import Spec
from models.weights import ResolvedWeights, resolve

if TYPE_CHECKING:
    import torch

ARCHITECTURE = "BlipForQuestionAnswering"
DEFAULT_PROMPT = "what is in the picture?"
DEFAULT_MAX_NEW_TOKENS = 20
DEFAULT_NUM_BEAMS = 1


@dataclass(frozen=True, slots=True)
class Question:
    """One row's parameters. Without a prompt, or with an empty one, DEFAULT_PROMPT is asked."""

    prompt: str
    max_new_tokens: int
    num_beams: int

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Question:
        """Read a row's parameters. Raises InvalidParameterError."""
        prompt = params.get("prompt") or ""
        if not isinstance(prompt, str) or not _is_unicode(prompt):
            raise InvalidParameterError("prompt must be text")
        try:
            max_new_tokens = int(params.get("max_new_tokens", DEFAULT_MAX_NEW_TOKENS))
            num_beams = int(params.get("num_beams", DEFAULT_NUM_BEAMS))
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidParameterError(f"{type(error).__name__}: {error}") from error
        if max_new_tokens < 1 or num_beams < 1:
            raise InvalidParameterError("max_new_tokens and num_beams must be at least 1")
        return cls(prompt if prompt.strip() else DEFAULT_PROMPT, max_new_tokens, num_beams)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: the tokenizer would fail the whole batch
        return False
    return True


class BlipModel:
    """A loaded BLIP. `infer` answers rows of uint8 RGB pixels, resized to the input bicubically."""

    def __init__(self, spec: Spec, network: Any, tokenizer: Any, normalisation: Normalisation) -> None:
        self._spec = spec
        self._network = network
        self._tokenizer = tokenizer
        self._normalisation = normalisation
        self._max_tokens = int(network.config.text_config.max_position_embeddings)

    @property
    def slot_shape(self) -> tuple[int, int, int]:
        """Shape of one row's pixels: (height, width, 3)."""
        return self._spec.slot_shape

    @property
    def spec(self) -> dict[str, Any]:
        """The model's spec as JSON types."""
        return self._spec.to_json()

    def infer(self, rows: Sequence[Row]) -> Answers:
        """Answer `rows` at once. Bad parameters fail their row alone, with InvalidParameterError.

        Raises ValueError if rows differ in `num_beams` or `max_new_tokens`: those must be in the batch key.
        """
        started = time.monotonic()
        asked = [self._question(row.params) for row in rows]
        good = [index for index, each in enumerate(asked) if isinstance(each, Question)]
        questions = [each for each in asked if isinstance(each, Question)]
        fragments: list[bytes | Exception] = [b"" if isinstance(q, Question) else q for q in asked]
        if not good:
            return Answers(fragments)
        tokens = self._generate([rows[index].pixels for index in good], questions)
        generated = time.monotonic()
        texts = self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
        for index, question, text in zip(good, questions, texts, strict=True):
            fragments[index] = orjson.dumps({"answer": text.strip(), "prompt": question.prompt})
        return Answers(fragments, {"infer": generated - started, "post": time.monotonic() - generated})

    def _question(self, params: Mapping[str, Any]) -> Question | InvalidParameterError:
        try:
            question = Question.from_params(params)
        except InvalidParameterError as error:
            return error
        num_tokens = len(self._tokenizer(question.prompt)["input_ids"])
        if num_tokens > self._max_tokens:
            return InvalidParameterError(
                f"the prompt has {num_tokens} tokens, at most {self._max_tokens} fit"
            )
        return question

    def _generate(self, pixels: Sequence[Any], questions: Sequence[Question]) -> torch.Tensor:
        """Token ids of each answer, int64 of (rows, tokens), on the CPU, padded after the end."""
        import torch

        if len({(each.max_new_tokens, each.num_beams) for each in questions}) != 1:
            raise ValueError("rows of one batch must agree in max_new_tokens and num_beams")
        device = self._network.device
        text = self._tokenizer([each.prompt for each in questions], padding=True, return_tensors="pt").to(
            device
        )
        config = self._network.config.text_config
        with torch.inference_mode():
            image = self._network.vision_model(self._normalisation.apply(np.stack(pixels), device))[0]
            asked = self._network.text_encoder(
                input_ids=text["input_ids"],
                attention_mask=text["attention_mask"],
                encoder_hidden_states=image,
                encoder_attention_mask=torch.ones(image.shape[:-1], dtype=torch.long, device=device),
            ).last_hidden_state
            start = torch.full((len(questions), 1), config.bos_token_id, device=device)
            tokens = self._network.text_decoder.generate(
                input_ids=start,
                attention_mask=torch.ones_like(start),
                encoder_hidden_states=asked,
                encoder_attention_mask=text["attention_mask"],
                eos_token_id=config.sep_token_id,
                pad_token_id=config.pad_token_id,
                max_new_tokens=questions[0].max_new_tokens,
                num_beams=questions[0].num_beams,
                do_sample=False,
            )
        answers: torch.Tensor = tokens[:, 1:].cpu()
        return answers


@dataclass(frozen=True, slots=True)
class Normalisation:
    """What the folder's image processor does to pixels once they have the right size."""

    size: tuple[int, int]
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def read(cls, folder: Path) -> Normalisation:
        """Read the folder's `preprocessor_config.json` or `processor_config.json`. Raises WeightsInvalidError."""
        path = folder / "preprocessor_config.json"
        try:
            if path.is_file():
                stored = json.loads(path.read_text("utf-8"))
            else:
                path = folder / "processor_config.json"
                stored = json.loads(path.read_text("utf-8"))["image_processor"]
            size = stored["size"]
            sides = (size["height"], size["width"]) if isinstance(size, dict) else (size, size)
            scale = stored.get("rescale_factor", 1 / 255) if stored.get("do_rescale", True) else 1.0
            normalises = stored.get("do_normalize", True)
            mean = tuple(stored["image_mean"]) if normalises else (0.0, 0.0, 0.0)
            std = tuple(stored["image_std"]) if normalises else (1.0, 1.0, 1.0)
        except (ValueError, KeyError, TypeError) as error:
            raise WeightsInvalidError(f"{path}: {error!r}") from error
        return cls(sides, scale, mean, std)

    def apply(self, pixels: Any, device: torch.device) -> torch.Tensor:
        """uint8 of (rows, height, width, 3) to float32 of (rows, 3, height, width) on `device`."""
        import torch

        batch = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).contiguous().float()
        mean = torch.tensor(self.mean, device=device).view(3, 1, 1) / self.scale
        std = torch.tensor(self.std, device=device).view(3, 1, 1) / self.scale
        return (batch - mean) / std


def load(config: Mapping[str, Any], device: str, progress: Progress) -> BlipModel:
    """Load the folder of weights that `config` names on `device` ("cpu", "cuda:0") and run it once.

    Keys besides those of models.weights.WeightsSource: `max_batch_size` (default 1), `num_threads` (of torch
    on the CPU). Raises WeightsUnavailableError, WeightsInvalidError, UnsupportedModelError.
    """
    resolved = resolve(config, progress)
    progress({"stage": "load"})
    if config.get("num_threads"):
        import torch

        torch.set_num_threads(config["num_threads"])
    network, tokenizer = _read(resolved)
    normalisation = Normalisation.read(resolved.path)
    image_size = int(network.config.vision_config.image_size)
    if normalisation.size != (image_size, image_size):
        raise UnsupportedModelError(
            f"{resolved.path}: images of {normalisation.size}, a network for {image_size}"
        )
    spec = _spec(config["model_id"], image_size, device, resolved.sha256)
    model = BlipModel(spec, network.to(device), tokenizer, normalisation)
    progress({"stage": "warm_up"})
    pixels = np.zeros(model.slot_shape, dtype=np.uint8)
    for num_rows in sorted({1, int(config.get("max_batch_size") or 1)}):
        model.infer([WarmUpRow(pixels, {"max_new_tokens": 2})] * num_rows)
    return model


def _read(resolved: ResolvedWeights) -> tuple[Any, Any]:
    """Network (float32, eval mode, on the CPU) and tokenizer, from local safetensors and text files only."""
    from transformers import AutoTokenizer, BlipForQuestionAnswering
    from transformers.utils import logging

    logging.disable_progress_bar()  # nobody watches a worker's terminal
    folder = resolved.path
    try:
        stored = json.loads((folder / "config.json").read_text("utf-8"))
        if ARCHITECTURE not in stored.get("architectures", []):
            raise UnsupportedModelError(
                f"{folder} holds {stored.get('architectures')}, served is {ARCHITECTURE}"
            )
        read: Any = BlipForQuestionAnswering.from_pretrained
        network, report = read(
            folder, local_files_only=True, use_safetensors=True, dtype="float32", output_loading_info=True
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (MemoryError, UnsupportedModelError):
        raise
    except Exception as error:  # foreign bytes can fail in any way there is
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise WeightsInvalidError(f"{folder} is not a loadable model: {reason}") from error
    if report["missing_keys"]:  # the library would fill them with random numbers
        raise WeightsInvalidError(f"{folder} lacks {len(report['missing_keys'])} tensors of its network")
    _respect_masks(network.text_decoder)
    return network.eval(), tokenizer


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


def _spec(model_id: str, image_size: int, device: str, sha256: str) -> Spec:
    return Spec(
        model_id=model_id,
        family="blip",
        task="vqa",
        resize="square_bicubic",
        input_height=image_size,
        input_width=image_size,
        labels=(),
        device=device,
        runtime="torch",
        precision="fp32",
        weights_sha256=sha256,
    )
