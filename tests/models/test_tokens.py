from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.tokens import Tokens
from tests.models.blip_folder import SPECIAL, WORDS, save_blip

PIECES = st.sampled_from(
    [*WORDS, *SPECIAL, "Cats", "CAFÉ", "\x00", "猫", "\u202e", "n't", "'s", " ' ", "unknown"]
)
TEXTS = st.one_of(st.lists(PIECES).map(" ".join), st.lists(PIECES).map("".join), st.text())


@pytest.fixture(scope="module", params=[False, True], ids=["as it is", "cleans up"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Tokens]:
    """The library's own, and ours as it is read back from a converted folder."""
    from transformers import AutoTokenizer

    folder = save_blip(tmp_path_factory.mktemp("tokens") / "tiny")
    library: Any = AutoTokenizer.from_pretrained(folder, clean_up_tokenization_spaces=request.param)
    assert library.clean_up_tokenization_spaces is request.param
    written = folder / "written.json"
    Tokens(library.backend_tokenizer, request.param).save(written)
    return library, Tokens.read(written, request.param)


@settings(deadline=None, max_examples=100)
@given(text=TEXTS)
def test_any_text_has_the_tokens_that_the_library_gives_it(both: tuple[Any, Tokens], text: str) -> None:
    library, ours = both
    if not any("\ud800" <= letter <= "\udfff" for letter in text):
        assert ours.ids(text) == library(text)["input_ids"]


@settings(deadline=None, max_examples=100)
@given(ids=st.lists(st.integers(0, len(SPECIAL) + len(WORDS) + 1), max_size=30))
def test_any_tokens_have_the_text_that_the_library_gives_them(
    both: tuple[Any, Tokens], ids: list[int]
) -> None:
    library, ours = both
    assert ours.text(ids) == library.batch_decode([ids], skip_special_tokens=True)[0]


def test_a_text_is_not_cut_however_the_tokenizer_was_saved(both: tuple[Any, Tokens], tmp_path: Path) -> None:
    library, _ = both
    backend = library.backend_tokenizer
    backend.enable_truncation(4)
    backend.enable_padding(length=40)
    backend.save(str(tmp_path / "cut.json"))
    ids = Tokens.read(tmp_path / "cut.json", False).ids("dog " * 20)
    assert len(ids) == 22
    assert ids == library("dog " * 20)["input_ids"]


def test_what_is_no_vocabulary_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="tokenizer"):
        Tokens.read(tmp_path / "tokenizer.json", False)
