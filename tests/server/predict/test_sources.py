"""Which sources names stand for."""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path

from server.predict.sources import Sources

DEPTH = 200


def test_folders_may_lie_deeper_than_calls_may(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(DEPTH):
        os.mkdir("d", dir_fd=folder)
        deeper = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = deeper
    os.close(os.open("a.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + DEPTH // 2)
    try:
        (found,) = Sources([str(tmp_path)], is_recursive=True)
    finally:
        sys.setrecursionlimit(limit)
    assert found.problem is None and found.name == f"{tmp_path}{'/d' * DEPTH}/a.jpg"
