"""A BLIP folder in, its networks ready to run out: converts once and otherwise only reads what is on the disk.

In a worker. With converted networks on the disk neither torch nor transformers is imported.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.accuracy import MAX_LOSS, loss
from models.answers import Progress
from models.blip_traits import BlipTraits
from models.runtimes import child
from models.runtimes.blip_openvino import OpenVinoBlip
from models.runtimes.blip_runtime import BlipRuntime
from models.runtimes.choice import machine
from models.runtimes.conversion import NO_OPENVINO, NOT_CONVERTED, ConversionError
from models.runtimes.converted import Converted, Entry, key, read_choice, write_choice
from models.runtimes.place import Place
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
    """Networks ready to run, and what texts are made of for them. `reason` is why they run so; empty where the settings
    decided and got it. `entry` is where they lie, None where nothing is kept."""

    runtime: BlipRuntime
    traits: BlipTraits
    tokens: Tokens
    reason: str = ""
    entry: Entry | None = None
    num_threads: int | None = None

    def known_batch_size(self, max_batch_size: int) -> int | None:
        """The best one, as a worker on such a machine found out before; None if none did."""
        if self.entry is None:
            return None
        known = read_choice(self.entry, self._circumstances(max_batch_size))
        return known if type(known) is int and 1 <= known <= max_batch_size else None

    def remember_batch_size(self, max_batch_size: int, best: int) -> None:
        """For the next worker, where something is kept."""
        if self.entry is None:
            return
        try:
            write_choice(self.entry, self._circumstances(max_batch_size), best)
        except OSError as error:
            log.warning("best batch size not kept", extra={"reason": str(error)})

    def _circumstances(self, max_batch_size: int) -> str:
        runs_as = Wish(self.runtime.name, self.runtime.precision)
        return f"{machine(runs_as, Place('cpu', max_batch_size, self.num_threads))} {max_batch_size}"


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
    if wish.folder is not None and wish.runtime != "torch":
        opening.prepare("int8" if wish.precision == "int8" else "fp32", wish.folder)
    pair, reason = _choose(wish)
    network = opening.in_torch(device) if pair == TORCH else opening.in_openvino(pair[1], wish.folder)
    return network if network.reason else replace(network, reason=reason)


def _choose(wish: Wish) -> tuple[Pair, str]:
    """The last of the candidates, which are faster the later they come, that loses little enough, and why. One that was
    asked for by name is taken as it is."""
    candidates = wish.candidates(capabilities())
    if len(candidates) == 1:
        return candidates[0], ""
    lost = {pair: loss(DEMO, *pair) for pair in candidates if pair[1] != "fp32"}
    bad = {pair: points for pair, points in lost.items() if points is None or points > MAX_LOSS}
    chosen = [pair for pair in candidates if pair not in bad][-1]
    said = [
        f"{' '.join(pair)} " + ("was not measured" if points is None else f"loses {points:.2f} points")
        for pair, points in bad.items()
    ]
    return chosen, "; ".join(
        [f"{' '.join(chosen)} is the fastest that keeps the accuracy, as measured beforehand", *said]
    )


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

    def prepare(self, precision: str, folder: Path) -> None:
        """Convert, if that was not done yet, in a process that takes PyTorch's memory with it. To be called before
        OpenVINO is first used: that starts threads."""
        converted = Converted(folder, BlipTraits.from_json)
        name = key(self._facts(precision))
        if converted.find(name) is None:
            with converted.locked(name, self.progress):
                if converted.find(name) is None:
                    self.progress({"stage": "convert"})
                    child.run(lambda: self._convert(converted, name, precision))

    def in_openvino(self, precision: str, folder: Path | None) -> BlipNetwork:
        """In PyTorch where there is no other network, and `reason` says why."""
        try:
            return self._converted(precision, folder)
        except ConversionError as error:
            log.warning(NOT_CONVERTED, extra={"weights": self.weights.path.name, "reason": str(error)})
        return replace(self.in_torch("cpu"), reason=NO_OPENVINO)

    def _converted(self, precision: str, folder: Path | None) -> BlipNetwork:
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
        """Raises ConversionError where there is none."""
        if entry.refusal:
            raise ConversionError(entry.refusal)
        traits: BlipTraits = entry.traits
        runtime = OpenVinoBlip(entry.folder, traits, precision, self.num_threads)
        tokens = Tokens.read(entry.folder / TOKENS, traits.cleans_up)
        return BlipNetwork(runtime, traits, tokens, entry=entry, num_threads=self.num_threads)

    def _convert(self, converted: Converted, name: str, precision: str) -> Entry:
        """Raises OSError where it cannot be kept."""
        self.progress({"stage": "convert"})
        checkpoint = self._read()
        try:
            return converted.add(
                name, checkpoint.traits, lambda folder: self._write(checkpoint, folder, precision)
            )
        except ConversionError as error:
            return converted.add(name, checkpoint.traits, None, str(error))

    def _in_passing(self, precision: str) -> BlipNetwork:
        """Converted for this worker alone: nothing stays but what it has mapped."""
        self.progress({"stage": "convert"})
        checkpoint = self._read()
        with tempfile.TemporaryDirectory() as folder:
            self._write(checkpoint, Path(folder), precision)
            return replace(self._stored(Entry(Path(folder), checkpoint.traits), precision), entry=None)

    def _read(self) -> BlipCheckpoint:
        from models.blip_checkpoint import read_blip

        return read_blip(self.weights.path, self.task)

    def _write(self, checkpoint: BlipCheckpoint, folder: Path, precision: str) -> None:
        """Convert and check. Raises ConversionError, OSError."""
        from models.runtimes.blip_agreement import check
        from models.runtimes.blip_conversion import write

        checkpoint.tokens.save(folder / TOKENS)
        write(checkpoint, folder, is_compressed=precision == "int8")
        check(checkpoint, folder, precision, self.num_threads)
