"""Which text a decoder's scores make: the best token each time, or the best of several beams. No torch.

Both choose what the library's `generate` (transformers 5.23, `_sample` and `_beam_search`) chooses with
`do_sample=False`, `length_penalty=1.0`, `early_stopping=False`. There is no state that rows share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.decoding import Decoding
from models.runtimes.blip_runtime import Floats, Numbers

_NEVER, _ZERO = np.float32(-1e9), np.float32(0)
"""A score that loses to every real one, as large as the library's."""


@dataclass(frozen=True, slots=True)
class Search:
    """How a batch's texts are searched: longest text in tokens, beams (1 is greedy)."""

    max_new_tokens: int
    num_beams: int

    def run(self, decoding: Decoding, ids: Numbers, last: int) -> list[list[int]]:
        """What follows each row of `ids` of (rows, tokens), up to the token `last`, which is kept, or the longest."""
        if self.num_beams == 1:
            written = _greedy(decoding, ids, last, self.max_new_tokens)
        else:
            written = _Beams(len(ids), self.num_beams, self.max_new_tokens).search(decoding, ids, last)
        return [_cut(row, last) for row in written.tolist()]


def _cut(row: list[int], last: int) -> list[int]:
    return row[: row.index(last) + 1] if last in row else row


def _greedy(decoding: Decoding, ids: Numbers, last: int, max_new_tokens: int) -> Numbers:
    """(rows, tokens written); what stands after `last` means nothing."""
    written = [decoding.begin(ids).argmax(-1)]
    is_open = written[0] != last
    while len(written) < max_new_tokens and is_open.any():
        written.append(decoding.go_on(written[-1]).argmax(-1))
        is_open &= written[-1] != last
    return np.stack(written, axis=1)


class _Beams:
    """Beams of every row: those that go on, and the best of those that ended. Scores are sums of logarithms of
    probabilities, of ended ones divided by their length."""

    def __init__(self, num_rows: int, num_beams: int, max_new_tokens: int) -> None:
        shape = (num_rows, num_beams)
        self._num_beams = num_beams
        self._max_new_tokens = max_new_tokens
        self._texts = np.zeros((*shape, max_new_tokens), np.int64)
        self._scores = np.zeros(shape, np.float32)
        self._scores[:, 1:] = _NEVER  # all beams are the same before the first token
        self._ended_texts = self._texts.copy()
        self._ended_scores = np.full(shape, _NEVER, np.float32)
        self._is_ended = np.zeros(shape, np.bool_)
        self._can_improve = np.ones((num_rows, 1), np.bool_)

    def search(self, decoding: Decoding, ids: Numbers, last: int) -> Numbers:
        """The best text of each row, (rows, max_new_tokens)."""
        num_rows, num_beams = self._scores.shape
        firsts = np.repeat(np.arange(num_rows), num_beams)
        scores = decoding.begin(ids)[firsts]
        decoding.take(firsts)
        for length in range(1, self._max_new_tokens + 1):
            order, may_go_on = self._extend(scores, length, last)
            if not (may_go_on and self._can_improve.any()):
                break
            decoding.take((order + np.arange(num_rows)[:, None] * num_beams).ravel())
            scores = decoding.go_on(self._texts[:, :, length - 1].ravel())
        return self._ended_texts[:, 0]

    def _extend(self, scores: Floats, length: int, last: int) -> tuple[Numbers, bool]:
        """Give every beam one more token. Which beam of its row each comes from, and whether any did not end."""
        num_rows, num_beams = self._scores.shape
        sums = (_log_softmax(scores).reshape(num_rows, num_beams, -1) + self._scores[:, :, None]).reshape(
            num_rows, -1
        )
        # Twice as many as go on, in case that many end.
        top = _best(sums, 2 * num_beams)
        top_sums = np.take_along_axis(sums, top, 1)
        beams, tokens = np.divmod(top, sums.shape[1] // num_beams)
        texts = np.take_along_axis(self._texts, beams[:, :, None], 1)
        texts[:, :, length - 1] = tokens
        ends = (tokens == last) | (length == self._max_new_tokens)
        self._keep_ended(texts, top_sums, ends, length)
        kept_sums = top_sums + np.where(ends, _NEVER, _ZERO)
        chosen = _best(kept_sums, num_beams)
        self._texts = np.take_along_axis(texts, chosen[:, :, None], 1)
        self._scores = np.take_along_axis(kept_sums, chosen, 1)
        # Whether the best that goes on, were it to end now, is better than the worst that ended.
        best = self._scores[:, :1] / np.float32(length)
        worst = np.where(self._is_ended, self._ended_scores.min(1, keepdims=True), _NEVER)
        self._can_improve &= (best > worst).any(1, keepdims=True)
        return np.take_along_axis(beams, chosen, 1), not ends.all()

    def _keep_ended(self, texts: Numbers, sums: Floats, ends: npt.NDArray[np.bool_], length: int) -> None:
        """Of what ended before and what ends now, the best. Only the first half may end: the rest stands by."""
        ended = ends & (np.arange(ends.shape[1]) < self._num_beams)
        scores = sums / np.float32(length) + np.where(ended & self._can_improve, _ZERO, _NEVER)
        scores = np.concatenate([self._ended_scores, scores], 1)
        chosen = _best(scores, self._num_beams)
        self._ended_scores = np.take_along_axis(scores, chosen, 1)
        self._ended_texts = np.take_along_axis(
            np.concatenate([self._ended_texts, texts], 1), chosen[:, :, None], 1
        )
        self._is_ended = np.take_along_axis(np.concatenate([self._is_ended, ended], 1), chosen, 1)


def _log_softmax(scores: Floats) -> Floats:
    shifted = scores - scores.max(-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def _best(scores: Floats, num_best: int) -> Numbers:
    """Where the highest of each row are, the highest first."""
    places = np.argpartition(-scores, num_best - 1, axis=1)[:, :num_best]
    order = np.argsort(-np.take_along_axis(scores, places, 1), axis=1, kind="stable")
    return np.take_along_axis(places, order, 1)
