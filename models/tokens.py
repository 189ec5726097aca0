"""A text as numbers of tokens and back, as the library's tokenizer does it, without that library. In a worker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

# What the library's `clean_up_tokenization` replaces, in its order.
_TIGHTENED = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"),
    (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip


class Tokens:
    """A network's vocabulary and how texts are cut into it."""

    def __init__(self, tokenizer: Tokenizer, cleans_up: bool) -> None:
        """`cleans_up`: spaces before punctuation are taken out of what was decoded."""
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._cleans_up = cleans_up

    @classmethod
    def read(cls, path: Path, cleans_up: bool) -> Tokens:
        """What `save` wrote. Raises ValueError."""
        try:
            return cls(Tokenizer.from_file(str(path)), cleans_up)
        except Exception as error:  # the library raises nothing more precise
            raise ValueError(f"{path}: {error}") from error

    def save(self, path: Path) -> None:
        """Write the vocabulary as JSON. Raises OSError."""
        path.write_text(self._tokenizer.to_str(), "utf-8")  # its own `save` raises Exception

    def ids(self, text: str) -> list[int]:
        """Numbers of the tokens of `text`, with the special ones that begin and end it."""
        return list(self._tokenizer.encode(text).ids)

    def text(self, ids: Sequence[int]) -> str:
        """The text of `ids` without special tokens. Numbers that are not in the vocabulary are left out."""
        text = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        if self._cleans_up:
            for loose, tight in _TIGHTENED:
                text = text.replace(loose, tight)
        return text
