"""The engine's decoder and YOLO adapter without a server, for ceilings, and inside other servers.

Imports of models and server stay inside functions: the libraries read their environment at import.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ENGINE_KEYS = ("runtime", "precision", "converted_dir")
"""What executes the network: the keys of models.yolo.load that engine and ceiling must have alike."""


class DifferentRuntimesError(Exception):
    """What the two sides of a bench ran on cannot be compared."""


class Adapter:
    """JPEGs in, JSON out. Not for several threads at once, but `decode` may run in another than `infer`."""

    def __init__(
        self,
        weights: str,
        num_threads: int,
        max_batch_size: int,
        options: Mapping[str, Any] | None = None,
        device: str = "cpu",
    ) -> None:
        """Load `weights`. `options` are keys of models.yolo.load, those of ENGINE_KEYS above all."""
        from server.launch import worker_environment
        from server.settings_load import load_settings

        os.environ.update(worker_environment(load_settings()))
        from models.yolo import load
        from server.decode import ImageLimits
        from server.resize import RESIZES

        config = {
            "model_id": "bench",
            "source": "file",
            "weights": weights,
            "max_batch_size": max_batch_size,
            "num_threads": num_threads,
            **(options or {}),
        }
        self._model = load(config, device, lambda fields: None)
        self._resize = RESIZES[self._model.spec["resize"]]
        self._limits = ImageLimits()

    @property
    def runtime(self) -> dict[str, str]:
        """What executes the network: `runtime`, `precision`, `device`."""
        return {name: self._model.spec[name] for name in ("runtime", "precision", "device")}

    def decode(self, jpegs: Sequence[bytes]) -> list[Any]:
        """Rows for `infer`, each with pixels of its own."""
        import numpy as np

        from models.answers import WarmUpRow
        from server.decode import decode

        rows = []
        for jpeg in jpegs:
            picture = decode(jpeg, self._limits)
            slot = np.empty(self._model.slot_shape, np.uint8)
            self._resize(picture, slot)
            rows.append(WarmUpRow(slot, {"height": picture.shape[0], "width": picture.shape[1]}))
        return rows

    def infer(self, rows: Sequence[Any]) -> list[bytes]:
        """One JSON object for each row. Raises what a row's answer is where it is an exception."""
        fragments = []
        for fragment in self._model.infer(rows).fragments:
            if isinstance(fragment, Exception):
                raise fragment
            fragments.append(fragment)
        return fragments

    def answer(self, jpegs: Sequence[bytes]) -> list[bytes]:
        """Decode and infer."""
        return self.infer(self.decode(jpegs))


def add_options(parser: argparse.ArgumentParser) -> None:
    """`--weights` and what executes the network."""
    parser.add_argument("--weights", required=True, help="as `python -m bench.weights` makes them")
    parser.add_argument("--runtime", default="auto", help="as the engine's setting of this name")
    parser.add_argument("--precision", default="auto", help="as the engine's setting of this name")
    parser.add_argument(
        "--converted-dir",
        default=str(Path(tempfile.gettempdir()) / "converted"),
        help="as the engine's setting of this name",
    )


def chosen_options(args: argparse.Namespace) -> dict[str, str]:
    """Those of ENGINE_KEYS, for every side of a bench alike."""
    return {key: getattr(args, key) for key in ENGINE_KEYS}


def require_alike(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Raises DifferentRuntimesError where two sides were executed by different runtimes or in another precision."""
    for key in ("runtime", "precision"):
        if ours[key] != theirs[key]:
            raise DifferentRuntimesError(
                f"{key} of the engine is {ours[key]}, without a server {theirs[key]}"
            )
