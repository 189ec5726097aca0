from __future__ import annotations

from typing import Any

import pytest

from models.errors import InvalidParameterError
from models.prompts import Asked


def test_a_prompt_a_list_or_neither_is_read() -> None:
    assert Asked.from_params({}) == Asked(("",), False, 20, 1, None)
    assert Asked.from_params({"prompt": " "}).prompts == ("",)
    assert Asked.from_params({"prompts": ["a ", "", " \n"], "num_beams": 2, "image_key": "k"}) == Asked(
        ("a ", "", ""), True, 20, 2, "k"
    )


@pytest.mark.parametrize("params", [
    {"prompt": 3}, {"prompt": ["a"]}, {"prompt": "half \ud800"}, {"prompts": []}, {"prompts": "a"}, {"prompts": ["a", 1]},
    {"prompts": ["a", "\ud800"]}, {"num_beams": 0}, {"num_beams": "many"}, {"max_new_tokens": 0},
])  # fmt: skip
def test_impossible_parameters_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        Asked.from_params(params)
    assert caught.value.code == "invalid_parameter"
