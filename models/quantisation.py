"""int8 for YOLO on the CPU: a converted network, calibrated on an operator's own pictures, kept beside the others.

Needs nncf, the extra `int8`. In the command's own process, never in a worker: that reads what is kept here.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.answers import Pixels, Progress
from models.errors import RuntimeUnavailableError, WeightsNotStoredError
from models.runtimes.agreement import CLOSE, Difference, compare
from models.runtimes.choice import seconds_per_image
from models.runtimes.conversion import read_network, save_network
from models.runtimes.converted import Converted, key
from models.runtimes.network import open_network
from models.runtimes.openvino_runtime import OpenVinoRuntime
from models.runtimes.pictures import answers
from models.runtimes.place import Place
from models.runtimes.runtime import Runtime
from models.runtimes.wish import Wish
from models.traits import Traits
from models.weights import resolve
from models.yolo import source_of

if TYPE_CHECKING:
    import openvino

MAX_COMPARED = 32
"""Pictures: raw outputs of all are in memory at once."""
_NUM_TURNS = 3
_LAYER = re.compile(r"__module\.network\.model\.(\d+)/")


@dataclass(frozen=True, slots=True)
class Quantised:
    """What became of it: `difference` from fp32 on the first `num_compared` of the pictures that it was calibrated on,
    and the seconds that either takes for one image, on all cores."""

    folder: Path
    num_pictures: int
    num_compared: int
    difference: Difference
    fp32_seconds: float
    int8_seconds: float

    @property
    def doubts(self) -> str:
        """Which bounds of coarser arithmetic it does not keep; empty if it keeps all."""
        return self.difference.broken(CLOSE)


class Quantisation:
    """One YOLO network on its way to int8. First opened, so that who prepares the pictures knows its `traits`."""

    def __init__(self, config: Mapping[str, Any], progress: Progress) -> None:
        """Open the network of `config` (a factory's) in fp32, converted if it is not yet.

        Raises RuntimeUnavailableError where nncf is missing or the network cannot be converted, WeightsNotStoredError
        if it cannot be kept, and what `models.yolo.load` raises.
        """
        self._nncf = _import_nncf()
        source = source_of(config, resolve(config, progress))
        wish = Wish.from_config({**config, "runtime": "openvino", "precision": "fp32"})
        opened = open_network(source, wish, Place("cpu", 1), progress)
        if opened.runtime.name != "openvino":
            raise RuntimeUnavailableError(f"this network cannot be had in int8: {opened.reason}")
        self._exact = opened.runtime
        self.traits: Traits = opened.traits
        entry = None
        if wish.folder is not None:
            self._folder = Converted(wish.folder)
            self._name = key(source.calibrated_facts())
            entry = self._folder.find(key(source.facts()))
        if entry is None:
            raise WeightsNotStoredError(f"the converted network is not kept in {wish.folder}; see the log")
        self._network = read_network(entry.network)

    def run(self, pictures: Sequence[Pixels], progress: Progress) -> Quantised:
        """Calibrate on `pictures`, resized as the traits say, keep the network in the place of any that was calibrated
        before, and compare. Raises ValueError for no pictures, WeightsNotStoredError if the disk does not take it."""
        if not pictures:
            raise ValueError("there is nothing to calibrate on")
        network = self._calibrated(pictures)
        try:
            with self._folder.locked(self._name, progress):
                entry = self._folder.add(
                    self._name, self.traits, lambda folder: save_network(network, folder), ""
                )
        except OSError as error:
            raise WeightsNotStoredError(f"the calibrated network could not be kept: {error}") from error
        coarse = OpenVinoRuntime(
            read_network(entry.network), (*self.traits.input_shape, 3), "int8", Place("cpu", 1)
        )
        compared = pictures[:MAX_COMPARED]
        reference, found = answers(self._exact, compared, 1), answers(coarse, compared, 1)
        difference = compare(reference, found, self.traits)
        times = _times(self._exact, coarse, pictures[0])
        return Quantised(entry.folder, len(pictures), len(compared), difference, *times)

    def _calibrated(self, pictures: Sequence[Pixels]) -> openvino.Model:
        nncf = self._nncf
        network = self._network.clone()
        network.reshape([1, *self.traits.input_shape, 3])
        is_transformer = self.traits.head == "RTDETRDecoder"
        with _quiet():
            return nncf.quantize(
                network,
                nncf.Dataset(pictures, lambda picture: picture[None]),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(pictures),
                model_type=nncf.ModelType.TRANSFORMER if is_transformer else None,
                ignored_scope=nncf.IgnoredScope(patterns=_exact_patterns(network), validate=False),
            )


def _exact_patterns(network: openvino.Model) -> list[str]:
    """What stays in floats: the arithmetic of the head that makes boxes and confidences of what its convolutions say.
    In int8 it would round places to multiples of some pixels."""
    found = [_LAYER.match(node.get_friendly_name()) for node in network.get_ops()]
    head = max((int(match[1]) for match in found if match), default=0)
    words = "Add|Subtract|Multiply|Divide|Sigmoid|Softmax"
    return [rf"__module\.network\.model\.{head}/.*({words}).*", rf"__module\.network\.model\.{head}\.dfl.*"]


def _times(exact: Runtime, coarse: Runtime, picture: Pixels) -> tuple[float, float]:
    """In turns, so that other work on the machine falls on both."""
    turns = [
        (seconds_per_image(exact, picture), seconds_per_image(coarse, picture)) for _ in range(_NUM_TURNS)
    ]
    return min(ours for ours, _ in turns), min(theirs for _, theirs in turns)


def _import_nncf() -> Any:
    """It finds no openvino_telemetry, see models/runtimes, and so has nothing to report with."""
    try:
        with _quiet():
            return importlib.import_module("nncf")
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"calibrating for int8 needs the extra of that name, pip install '.[int8]' ({error})"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without nncf's bars, and its and PyTorch's remarks on what is as it should be."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
