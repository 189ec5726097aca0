"""How many connections the limit of open files allows."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from server.descriptors import MAX_AUTO, RESERVE, connections_for


@pytest.mark.parametrize(("wanted", "num_descriptors", "expected"), [
    ("auto", 1024, 1024 - RESERVE), ("auto", 1_000_000, MAX_AUTO), ("auto", 256, 128), ("auto", 1, 1),
    (100, 1024, 100), (100_000, 1024, 1024 - RESERVE), (100_000, 200_000, 100_000),
])  # fmt: skip
def test_some_descriptors_are_kept_for_the_rest_of_the_server(
    wanted: int, num_descriptors: int, expected: int
) -> None:
    assert connections_for(wanted, num_descriptors) == expected  # type: ignore[arg-type]


PROGRAM = """
import json, resource, sys
from server.descriptors import raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (64, int(sys.argv[1])))
room = raise_limit(int(sys.argv[2]))
print(json.dumps([room, resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""


@pytest.mark.parametrize(("hard", "wanted", "expected"), [
    (4000, 200, [200, [200 + RESERVE, 4000]]),  # no further than is needed
    (300, 200, [150, [300, 300]]),
])  # fmt: skip
def test_the_soft_limit_is_raised_as_far_as_needed(hard: int, wanted: int, expected: object) -> None:
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(hard), str(wanted)], capture_output=True, text=True, check=True
    )
    assert json.loads(output.stdout) == expected
