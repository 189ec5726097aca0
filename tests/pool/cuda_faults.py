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


def load(config: Mapping[str, Any], device: str, progress: Any) -> Guarded:
    """The factory."""
    check_present(device)
    return Guarded(Breaks(device), device, {})
