from __future__ import annotations

import pytest

from server.readme import README, filled


def test_the_readmes_tables_are_those_of_the_code() -> None:
    text = README.read_text("utf-8")
    assert filled(text) == text, "run: python -m server.readme"


def test_a_readme_without_a_place_for_a_table_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 places"):
        filled("# nothing here")
