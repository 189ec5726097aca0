"""A BLIP folder in, its networks ready to run out: converts once and otherwise only reads what is on the disk.

In a worker. With converted networks on the disk neither torch nor transformers is imported.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.accuracy import MAX_LOSS, loss
from models.answers import Progress
from models.blip_traits import BlipTraits
from models.runtimes.blip_openvino import OpenVinoBlip
from models.runtimes.blip_runtime import BlipRuntime
from models.runtimes.converted import Converted, Entry, key
from models.runtimes.wish import TORCH, Pair, Wish, capabilities, require_possible
from models.tokens import Tokens
from models.weights import ResolvedWeights, sha256_of

if TYPE_CHECKING:
    from models.blip_checkpoint import BlipCheckpoint

TOKENS = "tokenizer.json"
DEMO = "shapes-vqa"
"""The model whose published accuracy decides which precisions are good enough."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BlipNetwork:
    """Networks ready to run, and what texts are made of for them."""

    runtime: BlipRuntime
    traits: BlipTraits
    tokens: Tokens


def open_network(
    config: Mapping[str, Any], resolved: ResolvedWeights, device: str, progress: Progress
) -> BlipNetwork:
    """The networks of the folder `resolved`, on `device` ("cpu", "cuda:0").

    Keys of `config`: `task` (what the operator says it is, None for what the folder says), `num_threads` (on the CPU,
    None for the runtime's own), `runtime`, `precision`, `converted_dir` (see models.runtimes.wish.Wish). Raises
    RuntimeUnavailableError, and what `read_blip` raises.
    """
    wish = Wish.from_config(config)
    require_possible(wish, device)
    opening = _Opening(resolved, config.get("task"), config.get("num_threads"), progress)
    if device != "cpu" or wish.is_plain:
        return opening.in_torch(device)
    pair = _choose(wish)
    return opening.in_torch(device) if pair == TORCH else opening.in_openvino(pair[1], wish.folder)


def _choose(wish: Wish) -> Pair:
    """The last of the candidates, which are faster the later they come, that loses little enough. One that was asked
    for by name is taken as it is."""
    candidates = wish.candidates(capabilities())
    good = [pair for pair in candidates if pair[1] == "fp32" or _points(pair) <= MAX_LOSS]
    return candidates[0] if len(candidates) == 1 else good[-1]


def _points(pair: Pair) -> float:
    lost = loss(DEMO, *pair)
    return float("inf") if lost is None else lost


@dataclass(frozen=True, slots=True)
class _Opening:
    """One call of `open_network`."""

    weights: ResolvedWeights
    task: Any
    num_threads: int | None
    progress: Progress

    def in_torch(self, device: str) -> BlipNetwork:
        from models.runtimes.blip_torch import TorchBlip

        if self.num_threads:
            import torch

            torch.set_num_threads(self.num_threads)
        checkpoint = self._read()
        return BlipNetwork(TorchBlip(checkpoint, device), checkpoint.traits, checkpoint.tokens)

    def in_openvino(self, precision: str, folder: Path | None) -> BlipNetwork:
        if folder is None:
            return self._in_passing(precision)
        converted = Converted(folder, BlipTraits.from_json)
        name = key(self._facts(precision))
        if (entry := converted.find(name)) is not None:
            return self._stored(entry, precision)
        with converted.locked(name, self.progress):
            entry = converted.find(name)
            try:
                return self._stored(entry or self._convert(converted, name, precision), precision)
            except OSError as error:
                log.warning("converted network not kept", extra={"reason": str(error)})
        return self._in_passing(precision)

    def _facts(self, precision: str) -> dict[str, Any]:
        """Everything that decides what a conversion gives: weights and the small files beside them."""
        beside = (path for path in self.weights.path.iterdir() if path.suffix in (".json", ".txt"))
        return {
            "family": "blip",
            "weights": self.weights.sha256,
            "files": {path.name: sha256_of(path) for path in sorted(beside)},
            "task": self.task,
            "is_compressed": precision == "int8",
            "transformers": version("transformers"),
        }

    def _stored(self, entry: Entry, precision: str) -> BlipNetwork:
        traits: BlipTraits = entry.traits
        runtime = OpenVinoBlip(entry.folder, traits, precision, self.num_threads)
        return BlipNetwork(runtime, traits, Tokens.read(entry.folder / TOKENS, traits.cleans_up))

    def _convert(self, converted: Converted, name: str, precision: str) -> Entry:
        """Raises OSError where it cannot be kept."""
        self.progress({"stage": "convert"})
        checkpoint = self._read()
        return converted.add(name, checkpoint.traits, lambda folder: _write(checkpoint, folder, precision))

    def _in_passing(self, precision: str) -> BlipNetwork:
        """Converted for this worker alone: nothing stays but what it has mapped."""
        self.progress({"stage": "convert"})
        checkpoint = self._read()
        with tempfile.TemporaryDirectory() as folder:
            _write(checkpoint, Path(folder), precision)
            return self._stored(Entry(Path(folder), checkpoint.traits), precision)

    def _read(self) -> BlipCheckpoint:
        from models.blip_checkpoint import read_blip

        return read_blip(self.weights.path, self.task)


def _write(checkpoint: BlipCheckpoint, folder: Path, precision: str) -> None:
    from models.runtimes.blip_conversion import write

    checkpoint.tokens.save(folder / TOKENS)
    write(checkpoint, folder, is_compressed=precision == "int8")
