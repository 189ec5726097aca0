"""Pictures that are known to kill workers, for a while. Pure, front process."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

_MAX_KEYS = 1024


def content_key(pixels: npt.NDArray[np.uint8], params: Mapping[str, Any]) -> bytes:
    """What makes two entries the same to a model: 16 bytes of BLAKE2 over pixels and parameters."""
    digest = hashlib.blake2b(json.dumps(params, sort_keys=True).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


class Quarantine:
    """The latest `_MAX_KEYS` condemned entries, each for `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def is_empty(self, now: float) -> bool:
        """Nobody is held, so that nothing needs to be hashed."""
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)
        return not self._until

    def add(self, key: bytes, now: float) -> None:
        """Hold `key` from now on."""
        self._until[key] = now + self._seconds
        self._until.move_to_end(key)
        if len(self._until) > _MAX_KEYS:
            self._until.popitem(last=False)

    def holds(self, key: bytes, now: float) -> bool:
        """Whether `key` was condemned less than `seconds` ago."""
        return self._until.get(key, now) > now
