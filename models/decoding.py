"""Texts while they are written: what a decoder read so far, row by row. No torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.runtimes.blip_runtime import HIDDEN, BlipRuntime, Floats, LookedAt, Numbers, Past


class Decoding:
    """Rows of texts before a decoder. Padding is on the left of what is read first, is not looked at, and has no
    position of its own: positions count from a row's first token."""

    def __init__(self, runtime: BlipRuntime, looked_at: LookedAt, mask: npt.NDArray[np.bool_]) -> None:
        """`mask` of (rows, tokens) is what will be read first, False for padding."""
        self._runtime = runtime
        self._looked_at = looked_at
        self._mask = mask
        self._past: Past | None = None

    def begin(self, ids: Numbers) -> Floats:
        """Read the first tokens, (rows, tokens); scores of what follows, (rows, words)."""
        positions = np.maximum(self._mask.cumsum(-1) - 1, 0)
        num_tokens = ids.shape[1]
        is_seen = self._mask[:, None, None, :] & np.tri(num_tokens, dtype=bool)
        return self._step(ids, positions, is_seen)

    def go_on(self, ids: Numbers) -> Floats:
        """Read one more token of each row, (rows,); scores of what follows, (rows, words)."""
        self._mask = np.pad(self._mask, ((0, 0), (0, 1)), constant_values=True)
        positions = self._mask.sum(-1, keepdims=True) - 1
        return self._step(ids[:, None], positions, self._mask[:, None, None, :])

    def take(self, rows: Numbers) -> None:
        """Go on with `rows` in that order. What a row looks at stays where it is: rows may change places within the
        texts about one image, and grow in number if those of all images do."""
        assert self._past is not None
        self._past = self._runtime.reordered(self._past, rows)
        self._mask = self._mask[rows]

    def _step(self, ids: Numbers, positions: Numbers, is_seen: npt.NDArray[np.bool_]) -> Floats:
        bias = np.where(is_seen, np.float32(0), np.float32(HIDDEN))
        scores, self._past = self._runtime.step(ids, positions, bias, self._past, self._looked_at)
        return scores
