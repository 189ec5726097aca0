"""Weights in, a runtime out: converts once, chooses once, and otherwise only reads what is on the disk.

In a worker. With a converted network on the disk neither torch nor ultralytics is imported.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.answers import Progress
from models.detections import DEFAULT_MAX_DETECTIONS
from models.errors import RuntimeUnavailableError
from models.faults import is_out_of_memory
from models.runtimes import child, cores
from models.runtimes.agreement import SAME, compare
from models.runtimes.choice import Choice, choose, gated, machine
from models.runtimes.conversion import (
    NO_OPENVINO,
    NOT_CONVERTED,
    ConversionError,
    convert,
    read_network,
    save_network,
)
from models.runtimes.converted import Converted, Entry, key, read_choice, write_choice
from models.runtimes.cuda_device import CudaDevice
from models.runtimes.gpu import Wanted, open_on_gpu
from models.runtimes.layout import measure_layouts
from models.runtimes.openvino_runtime import OpenVinoRuntime
from models.runtimes.pictures import answers, sample_pictures
from models.runtimes.place import Place
from models.runtimes.runtime import Runtime
from models.runtimes.torch_runtime import TorchRuntime
from models.runtimes.wish import TORCH, Pair, Wish, capabilities, require_possible
from models.traits import Traits

if TYPE_CHECKING:
    import openvino

    from models.checkpoint import Checkpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """Which network: the `.pt` file, its sha256 and what changes the graph. As a factory's config has them."""

    path: Path
    sha256: str
    imgsz: Any = None
    end2end: bool | None = None
    task: str | None = None
    max_detections: int = DEFAULT_MAX_DETECTIONS

    def read(self) -> Checkpoint:
        """The network in PyTorch. Raises what `read_checkpoint` raises."""
        from models.checkpoint import read_checkpoint

        checkpoint = read_checkpoint(self.path, self.imgsz, self.end2end, self.task)
        if checkpoint.traits.end2end:
            checkpoint.widen(self.max_detections)
        return checkpoint

    def facts(self) -> dict[str, Any]:
        """Everything of it that decides what a conversion gives, JSON types."""
        return {
            "weights": self.sha256,
            "imgsz": self.imgsz,
            "end2end": self.end2end,
            "task": self.task,
            "max_detections": self.max_detections,
        }

    def calibrated_facts(self) -> dict[str, Any]:
        """The same of its network in int8: one for each in fp32, whatever it was calibrated on."""
        return {**self.facts(), "precision": "int8"}


@dataclass(frozen=True, slots=True)
class Opened:
    """A network ready to run. `reason` is why it runs so; empty where the settings decided and got it."""

    traits: Traits
    runtime: Runtime
    reason: str = ""
    layouts: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Prepared:
    """A converted network. `network` is None where there is none, and `refusal` says why; `entry` is None where nothing
    could be kept; `checkpoint` is there if the weights had to be read."""

    traits: Traits
    network: openvino.Model | None
    refusal: str = ""
    entry: Entry | None = None
    checkpoint: Checkpoint | None = None


def open_network(source: Source, wish: Wish, place: Place, progress: Progress) -> Opened:
    """The network of `source` as `wish` has it.

    Raises RuntimeUnavailableError, and what `read_checkpoint` raises.
    """
    require_possible(wish, place.device)
    if place.device != "cpu":
        return _open_on_gpu(source, wish, place, progress)
    if wish.is_plain:
        checkpoint = source.read()
        return Opened(checkpoint.traits, _torch(checkpoint, place))
    return _Opening(source, wish, place, progress).open()


class _Opening:
    """One call of `open_network` on the CPU."""

    def __init__(self, source: Source, wish: Wish, place: Place, progress: Progress) -> None:
        self._source = source
        self._wish = wish
        self._place = place
        self._progress = progress
        self._folder = Converted(wish.folder) if wish.folder else None

    def open(self) -> Opened:
        if self._wish.precision == "int8":
            return self._calibrated(self._candidates()[0])
        if self._folder is None:
            return self._anew("", self._candidates())
        name = key(self._source.facts())
        if not self._is_on_disk(name):
            # Held until the choice is made too: the next replica finds both and needs no PyTorch.
            with self._folder.locked(name, self._progress):
                if not self._is_on_disk(name):
                    self._progress({"stage": "convert"})
                    child.run(lambda: self._make(name))
        candidates = self._candidates()
        opened = self._from_disk(name, candidates)
        if opened is not None:
            return opened
        with self._folder.locked(name, self._progress):
            return self._from_disk(name, candidates) or self._anew(name, candidates)

    def _candidates(self) -> Sequence[Pair]:
        with cores.on(self._place.all_cores):  # OpenVINO counts them once, at its first use in the process
            return self._wish.candidates(capabilities())

    def _is_on_disk(self, name: str) -> bool:
        """Whether nothing is left to convert or to choose, as far as can be said without OpenVINO."""
        assert self._folder is not None
        entry = self._folder.find(name)
        if entry is None:
            return False
        is_chosen = bool(entry.refusal) or not self._wish.is_open
        return is_chosen or read_choice(entry, machine(self._wish, self._place)) is not None

    def _make(self, name: str) -> None:
        """Convert and choose, for the sake of what that leaves on the disk."""
        with cores.on(self._place.all_cores):
            self._anew(name, self._candidates())

    def _calibrated(self, pair: Pair) -> Opened:
        """Never made here: that needs pictures of the operator's."""
        prepared = self._stored(key(self._source.calibrated_facts())) if self._folder else None
        if prepared is None or prepared.network is None:
            raise RuntimeUnavailableError(
                "precision int8 needs a network that was calibrated with these versions; there is none: "
                "run `inference-engine quantize MODEL --images FOLDER`"
            )
        return Opened(prepared.traits, self._runtime(pair, prepared))

    def _from_disk(self, name: str, candidates: Sequence[Pair]) -> Opened | None:
        """None if there is something to convert or to choose first."""
        prepared = self._stored(name)
        if prepared is None:
            return None
        if prepared.network is None or not self._wish.is_open:
            return self._without_choice(prepared, candidates[0])
        choice = _known_choice(prepared.entry, machine(self._wish, self._place), candidates)
        if choice is None:
            return None
        return Opened(prepared.traits, self._runtime(choice.pair, prepared), choice.reason, choice.layouts)

    def _anew(self, name: str, candidates: Sequence[Pair]) -> Opened:
        prepared = (self._stored(name) if self._folder else None) or self._convert(name)
        if prepared.network is None or not self._wish.is_open:
            return self._without_choice(prepared, candidates[0])
        return self._open_fastest(prepared, candidates)

    def _without_choice(self, prepared: _Prepared, pair: Pair) -> Opened:
        """As `pair`, or in PyTorch where there is no other network."""
        if prepared.network is not None:
            return Opened(prepared.traits, self._runtime(pair, prepared))
        log.warning(NOT_CONVERTED, extra={"weights": self._source.path.name, "reason": prepared.refusal})
        return Opened(prepared.traits, self._runtime(TORCH, prepared), NO_OPENVINO)

    # Choosing

    def _open_fastest(self, prepared: _Prepared, candidates: Sequence[Pair]) -> Opened:
        self._progress({"stage": "choose"})
        kept, reasons = gated(candidates)
        runtimes = {pair: self._runtime(pair, prepared) for pair in kept or [TORCH]}
        choice = choose(runtimes, prepared.traits, self._place.max_batch_size, reasons)
        if choice.runtime == "openvino":
            choice = replace(choice, layouts=self._layouts(prepared, choice.precision))
        log.info("runtime chosen", extra={"weights": self._source.path.name, **choice.to_json()})
        if prepared.entry is not None:
            try:
                described = machine(self._wish, self._place)
                write_choice(prepared.entry, described, choice.to_json())
            except OSError as error:
                log.warning("choice of a runtime not kept", extra={"reason": str(error)})
        return Opened(prepared.traits, runtimes[choice.pair], choice.reason, choice.layouts)

    def _layouts(self, prepared: _Prepared, precision: str) -> Mapping[str, float]:
        self._progress({"stage": "lay_out"})
        with cores.on(self._place.all_cores):
            shape = (*prepared.traits.input_shape, 3)
            return measure_layouts(prepared.network, shape, precision, self._place.num_cores)

    def _runtime(self, pair: Pair, prepared: _Prepared) -> Runtime:
        if pair[0] == "torch":
            prepared.checkpoint = prepared.checkpoint or self._source.read()
            return _torch(prepared.checkpoint, self._place)
        shape = (*prepared.traits.input_shape, 3)
        return OpenVinoRuntime(prepared.network, shape, pair[1], self._place)

    # Converting

    def _stored(self, name: str) -> _Prepared | None:
        assert self._folder is not None
        entry = self._folder.find(name)
        if entry is None:
            return None
        if entry.refusal:
            return _Prepared(entry.traits, None, entry.refusal, entry)
        try:
            return _Prepared(entry.traits, read_network(entry.network), "", entry)
        except ConversionError as error:
            log.warning(
                "converted network not readable", extra={"folder": str(entry.folder), "reason": str(error)}
            )
            return None

    def _convert(self, name: str) -> _Prepared:
        self._progress({"stage": "convert"})
        checkpoint = self._source.read()
        prepared = _Prepared(checkpoint.traits, None, checkpoint=checkpoint)
        try:
            prepared.network = convert(checkpoint.network, (*checkpoint.traits.input_shape, 3))
            self._check(prepared)
        except ConversionError as error:
            prepared.network, prepared.refusal = None, str(error)
        if self._folder is not None:
            self._keep(name, prepared)
        return prepared

    def _check(self, prepared: _Prepared) -> None:
        """Raises ConversionError if it does not answer as the network in PyTorch does."""
        pictures = sample_pictures(prepared.traits.input_shape)
        batch = self._place.max_batch_size
        expected = answers(self._runtime(TORCH, prepared), pictures, batch)
        try:
            found = answers(self._runtime(("openvino", "fp32"), prepared), pictures, batch)
        except RuntimeError as error:
            if is_out_of_memory(error):  # says nothing about the network
                raise
            raise ConversionError(f"it does not run: {error}".splitlines()[0]) from error
        if broken := compare(expected, found, prepared.traits).broken(SAME):
            raise ConversionError(f"it answers otherwise than PyTorch: {broken}")

    def _keep(self, name: str, prepared: _Prepared) -> None:
        """Put it on the disk, and go on with what lies there: mapped from the file it takes no memory of its own."""
        assert self._folder is not None
        network = prepared.network
        try:
            write = None if network is None else lambda folder: save_network(network, folder)
            prepared.entry = self._folder.add(name, prepared.traits, write, prepared.refusal)
            if network is not None:
                prepared.network = read_network(prepared.entry.network)
        except (OSError, ConversionError) as error:
            log.warning(
                "converted network not kept", extra={"weights": self._source.path.name, "reason": str(error)}
            )


def _open_on_gpu(source: Source, wish: Wish, place: Place, progress: Progress) -> Opened:
    checkpoint = source.read()
    shape = (*checkpoint.traits.input_shape, 3)
    wanted = Wanted(wish.runtime, wish.precision, wish.folder, source.facts())
    device = CudaDevice(place.device)
    runtime = open_on_gpu(checkpoint.network, shape, place.max_batch_size, device, wanted, progress)
    return Opened(checkpoint.traits, runtime)


def _torch(checkpoint: Checkpoint, place: Place) -> TorchRuntime:
    import torch

    if place.num_threads:
        torch.set_num_threads(place.num_threads)
    shape = (*checkpoint.traits.input_shape, 3)
    return TorchRuntime(checkpoint.network, shape, place.max_batch_size)


def _known_choice(entry: Entry | None, described: str, candidates: Sequence[Pair]) -> Choice | None:
    """What was chosen before on such a machine, if it can be taken."""
    if entry is None:
        return None
    try:
        choice = Choice.from_json(read_choice(entry, described))
    except (TypeError, ValueError):
        return None
    return choice if choice.pair in (*candidates, TORCH) else None
