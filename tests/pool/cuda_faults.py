"""A model that breaks its GPU for real. Imported in workers only."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from models.answers import Answers, Row
from models.faults import Guarded, check_present


class Breaks:
    """`params["do"]`: ``assert`` indexes out of range on the device, ``fill`` asks for more memory than there is."""

    slot_shape = (8, 8, 3)

    def __init__(self, device: str) -> None:
        self._device = device
        self.spec = {"device": device}

    def infer(self, rows: Sequence[Row]) -> Answers:
        """The checksum of what came back from the device."""
        import torch

        todo = [row.params.get("do") for row in rows]
        if "assert" in todo:
            table = torch.zeros(4, device=self._device)
            table[torch.tensor([10**6], device=self._device)].sum()
        if "fill" in todo or ("fill_together" in todo and len(rows) > 1):
            free, _ = torch.cuda.mem_get_info(self._device)
            torch.empty(2 * free, dtype=torch.uint8, device=self._device)
        fragments: list[bytes | Exception] = []
        for row in rows:
            there = torch.from_numpy(row.pixels.copy()).to(self._device)
            fragments.append(json.dumps({"crc": zlib.crc32(there.cpu().numpy().tobytes())}).encode())
        return Answers(fragments)


class BreaksLater(Breaks):
    """The same, two batches under way: what is wrong shows when a batch is waited for, or the one behind it."""

    max_launched = 2

    def launch(self, rows: Sequence[Row]) -> Launched:
        """Queue everything, wait for nothing."""
        import torch

        if any(row.params.get("do") == "assert" for row in rows):
            table = torch.zeros(4, device=self._device)
            table[torch.tensor([10**6], device=self._device)].sum()
        there = [torch.from_numpy(row.pixels.copy()).to(self._device, non_blocking=True) for row in rows]
        done = torch.cuda.Event(blocking=True)
        done.record()
        return Launched(there, done)


class Launched:
    """Pixels on their way to the device."""

    def __init__(self, there: list[Any], done: Any) -> None:
        self._there = there
        self._done = done

    def wait(self) -> None:
        """Raises what CUDA says."""
        self._done.synchronize()

    def result(self) -> Answers:
        """The checksums of what came back."""
        crcs = [zlib.crc32(each.cpu().numpy().tobytes()) for each in self._there]
        return Answers([json.dumps({"crc": crc}).encode() for crc in crcs])


def load_later(config: Mapping[str, Any], device: str, progress: Any) -> Guarded:
    """The factory of `BreaksLater`."""
    check_present(device)
    return Guarded(BreaksLater(device), device, {})


def load(config: Mapping[str, Any], device: str, progress: Any) -> Guarded:
    """The factory."""
    check_present(device)
    return Guarded(Breaks(device), device, {})
