"""Files that records go to: one run at a time, whole after whatever happened, and disks that are full."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from server.predict.options import PredictOptions
from server.predict.output import Output, OutputError
from server.predict.progress import Count
from server.predict.run import Run
from server.predict.sources import Source, Sources

FOUND = {"model_id": "m", "task": "detect", "predictions": []}


def write(path: Path, output_format: str, *sources: str, resumes: bool = False, **fields: Any) -> None:
    with Output(path, output_format, "m", resumes=resumes) as output:
        for source in sources:
            output.write({"source": source, **FOUND, **fields})


@pytest.mark.parametrize("is_resumed", [False, True])
def test_a_file_that_another_run_writes_to_is_refused(tmp_path: Path, is_resumed: bool) -> None:
    path = tmp_path / "out"
    write(path, "jsonl", *("a" if is_resumed else ""))
    with Output(path, "jsonl", "m", resumes=is_resumed) as output:
        for resumes in (False, True):
            with pytest.raises(OutputError, match="another run writes to"):
                Output(path, "jsonl", "m", resumes=resumes)
        output.write({"source": "b", **FOUND})
    assert path.read_text().count("\n") == 1 + is_resumed
    write(path, "jsonl", "c", resumes=True)


def test_a_file_that_is_gone_on_with_keeps_its_place_and_its_rights(tmp_path: Path) -> None:
    path, link = tmp_path / "out", tmp_path / "link"
    link.symlink_to(path)
    write(link, "csv", "a", "b")
    path.chmod(0o604)
    write(link, "csv", "b", "c", resumes=True)
    assert link.is_symlink() and path.stat().st_mode & 0o777 == 0o604
    assert path.read_text().splitlines()[0].startswith("source,") and path.read_text().count("source,") == 1


def test_a_table_is_read_back_whatever_its_cells_hold_and_wherever_it_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "out"
    outline = [[float(number), 1.0] for number in range(30_000)]
    write(path, "csv", "é1", "é2", "é3", predictions=[{"label": "a", "polygon": outline}])
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex("é3".encode()) + 1])  # within the letter
    with Output(path, "csv", "m", resumes=True) as output:
        assert output.done == {"é1"}, "nobody knows that the second has no more rows"
    assert whole.startswith(path.read_bytes())


@pytest.mark.parametrize("output_format", ["jsonl", "csv"])
def test_a_full_disk_is_met_where_it_is_told_of(output_format: str) -> None:
    with Output(Path("/dev/full"), output_format, "m", resumes=False) as output, pytest.raises(OSError):
        output.write({"source": "a", **FOUND})


def test_an_output_that_is_closed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(OutputError, match="closed"):
        Output(None, "jsonl", "m", resumes=False)


def test_a_reader_that_is_slow_stops_nothing_but_the_writing(tmp_path: Path) -> None:
    """Its engine runs in the same event loop."""
    alive = threading.Event()

    class SlowOutput(Output):
        def write(self, fields: Any) -> None:
            assert alive.wait(10), "the event loop stood still"
            super().write(fields)

    class Client:
        async def run(self, call: Any) -> Any:
            asyncio.get_running_loop().call_later(0.02, alive.set)
            return FOUND

    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8")
    options = PredictOptions(
        "m",
        Sources([str(tmp_path)]),
        None,
        {},
        "jsonl",
        None,
        None,
        resumes=False,
        is_quiet=True,
        concurrency=1,
    )
    with SlowOutput(tmp_path / "out", "jsonl", "m", resumes=False) as output:
        asyncio.run(Run(options, Client(), output, None).go())  # type: ignore[arg-type]
    assert (tmp_path / "out").read_text().count("\n") == 1


def test_counting_what_cannot_be_read_leaves_no_complaint() -> None:
    def unreadable() -> Any:
        yield Source("a")
        raise PermissionError

    count = Count(unreadable())
    for thread in threading.enumerate():
        if thread.name == "count":
            thread.join(10)
    assert count.total is None
