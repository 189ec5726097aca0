"""``inference-engine quantize``: an operator's pictures in, a network for `precision = "int8"` out."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.errors import ModelError
from models.traits import Traits
from pool.model import Pixels
from server.decode import Decoder, ImageLimits
from server.errors import RequestFailedError
from server.launch import factory_config, worker_environment
from server.settings import Settings
from server.weights_commands import known_or_told

if TYPE_CHECKING:
    from models.quantisation import Quantised

MAX_NAMED = 5


def quantise(settings: Settings, name: str, folder: Path, max_images: int) -> int:
    """Calibrate the model `name` on at most `max_images` pictures below `folder`, and print how it compares; the exit
    code: 0, 1 if it failed, 2 for an unknown name or a folder without pictures."""
    known = known_or_told(settings)
    if known is None:
        return 2
    if name not in known:
        return _fail(f"no model {name}; known are {', '.join(known)}", 2)
    entry = known[name].entry
    if entry.family != "yolo":
        return _fail(f'{name} needs no calibration: precision = "int8" is enough', 2)
    paths = _spread([path for path in sorted(folder.rglob("*")) if path.is_file()], max_images)
    if not paths:
        return _fail(f"{folder} is no folder with files in it", 2)
    # before a library that reads it is imported; what the library would say is about itself
    os.environ.update({**worker_environment(settings), "YOLO_VERBOSE": "false"})
    from models.quantisation import Quantisation

    try:
        quantisation = Quantisation(factory_config(settings, entry), _show)
        pictures = _pictures(settings, paths, quantisation.traits)
        if not pictures:
            return _fail(f"none of the {len(paths)} files looked at in {folder} is a picture", 2)
        print(f"{name}: calibrating on {len(pictures)} pictures", file=sys.stderr, flush=True)
        _print(name, quantisation.run(pictures, _show))
    except ModelError as error:
        return _fail(f"{name}: {' '.join(str(error).split())}", 1)
    return 0


def _pictures(settings: Settings, paths: Sequence[Path], traits: Traits) -> list[Pixels]:
    """Decoded and resized as the server does it: uint8 RGB of (height, width, 3) each."""
    limits = ImageLimits(settings.max_body_bytes, settings.max_image_pixels, settings.max_image_side)
    decoder = Decoder(1, limits, settings.jpeg_scaling)
    pictures, skipped = [], []
    for path in paths:
        slot = np.empty((*traits.input_shape, 3), np.uint8)
        try:
            decoder.decode(slot, path.read_bytes(), traits.resize)
        except (RequestFailedError, OSError):
            skipped.append(path.name)
        else:
            pictures.append(slot)
    decoder.close()
    if skipped:
        more = f" and {len(skipped) - MAX_NAMED} more" if len(skipped) > MAX_NAMED else ""
        named = ", ".join(skipped[:MAX_NAMED])
        print(f"inference-engine: not pictures that the server takes: {named}{more}", file=sys.stderr)
    return pictures


def _spread(paths: Sequence[Path], num: int) -> Sequence[Path]:
    """At most `num`, from the whole of the folder: neighbours are often frames of one film."""
    if len(paths) <= num:
        return paths
    return [paths[index * len(paths) // num] for index in range(num)]


def _show(step: Mapping[str, Any]) -> None:
    if step.get("stage") == "convert":
        print("inference-engine: converting the network", file=sys.stderr, flush=True)


def _print(name: str, quantised: Quantised) -> None:
    difference = quantised.difference
    ours, theirs = 1000.0 * quantised.fp32_seconds, 1000.0 * quantised.int8_seconds
    print(f"{name}: kept in {quantised.folder}, calibrated on {quantised.num_pictures} pictures")
    worst = f"{100.0 * difference.worst_place:.2f} % at most"
    print(
        f"agreement with fp32 on {quantised.num_compared} of them: "
        f"{100.0 * difference.share_matched:.1f} % of {difference.num_candidates} likeliest answers found, "
        f"confidence {difference.mean_confidence:.4f} apart in the mean, {difference.worst_confidence:.3f} at most, "
        f"places {100.0 * difference.mean_place:.2f} % of the input's side, {worst}"
    )
    print(f"one image: fp32 {ours:.1f} ms, int8 {theirs:.1f} ms, {ours / theirs:.2f} times as fast")
    if quantised.doubts:
        print(
            f"inference-engine: {name}: far from fp32 ({quantised.doubts}); measure it on labelled pictures",
            file=sys.stderr,
        )
    print('precision = "int8" in the settings now takes it')


def _fail(text: str, code: int) -> int:
    print(f"inference-engine: {text}", file=sys.stderr)
    return code
