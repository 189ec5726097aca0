from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from models import tries
from models.answers import no_progress
from models.download import Download, fetch, locked, publish
from models.tries import DownloadError, StorageError
from tests.models.file_server import ServedFile, serving

BODY = os.urandom(3_000_000)


@pytest.fixture(autouse=True)
def one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each try is looked at by itself; tests of more tries say so."""
    monkeypatch.setattr(tries, "MAX_TRIES", 1)
    monkeypatch.setattr(tries, "FIRST_PAUSE", 0.01)


def download_whole(download: Download, progress: Any = no_progress) -> None:
    with locked(download, progress):
        fetch(download, progress)
        publish(download)


def at(file: ServedFile, folder: Path) -> Download:
    return Download(f"{file.url}/x.pt", folder / "x.pt", connect_timeout=2.0, read_timeout=5.0)


def test_a_fetched_file_is_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    with serving(ServedFile(BODY)) as file:
        download_whole(at(file, tmp_path))
    assert (tmp_path / "x.pt").read_bytes() == BODY
    assert {path.name for path in tmp_path.iterdir()} <= {"x.pt", "x.pt.lock"}


def test_progress_ends_with_all_bytes_of_all_bytes(tmp_path: Path) -> None:
    seen: list[Mapping[str, Any]] = []
    with serving(ServedFile(BODY)) as file:
        download_whole(at(file, tmp_path), seen.append)
    assert seen[-1] == {"stage": "download", "done_bytes": len(BODY), "total_bytes": len(BODY)}


def test_a_body_cut_short_is_an_error_and_the_next_try_continues_it(tmp_path: Path) -> None:
    with serving(ServedFile(BODY, cut_at=1_000_000)) as file:
        download = at(file, tmp_path)
        with pytest.raises(DownloadError):
            fetch(download, no_progress)
        assert not download.target.exists()
        received = download.partial.stat().st_size
        assert 0 < received <= 1_000_000
        download_whole(download)
        assert file.requests[-1]["Range"] == f"bytes={received}-"
    assert download.target.read_bytes() == BODY


def test_a_part_of_another_version_is_not_continued(tmp_path: Path) -> None:
    with serving(ServedFile(BODY, cut_at=1_000_000)) as file:
        download = at(file, tmp_path)
        with pytest.raises(DownloadError):
            fetch(download, no_progress)
        file.body = BODY[::-1]
        download_whole(download)
    assert download.target.read_bytes() == BODY[::-1]


def test_a_part_without_a_strong_etag_is_not_continued(tmp_path: Path) -> None:
    with serving(ServedFile(BODY, cut_at=1_000_000, weak_etag=True)) as file:
        download = at(file, tmp_path)
        with pytest.raises(DownloadError):
            fetch(download, no_progress)
        download_whole(download)
        assert "Range" not in file.requests[-1]
    assert download.target.read_bytes() == BODY


def test_a_server_without_ranges_starts_the_file_again(tmp_path: Path) -> None:
    with serving(ServedFile(BODY, cut_at=1_000_000, ranges=False)) as file:
        download = at(file, tmp_path)
        with pytest.raises(DownloadError):
            fetch(download, no_progress)
        download_whole(download)
    assert download.target.read_bytes() == BODY


def test_a_part_that_is_whole_already_is_only_named(tmp_path: Path) -> None:
    with serving(ServedFile(BODY)) as file:
        download = at(file, tmp_path)
        fetch(download, no_progress)
        download_whole(download)
        assert len(file.requests) == 2
    assert download.target.read_bytes() == BODY


def test_a_part_longer_than_the_file_is_thrown_away(tmp_path: Path) -> None:
    with serving(ServedFile(BODY)) as file:
        download = at(file, tmp_path)
        download.partial.write_bytes(BODY + b"more")
        download.etag.write_text(file.etag)
        download_whole(download)
    assert download.target.read_bytes() == BODY


@pytest.mark.parametrize("status", [404, 500, 503])
def test_an_error_status_is_named(tmp_path: Path, status: int) -> None:
    with serving(ServedFile(BODY, status=status)) as file, pytest.raises(DownloadError, match=str(status)):
        fetch(at(file, tmp_path), no_progress)


def test_a_refused_connection_is_an_error(tmp_path: Path) -> None:
    with serving(ServedFile(BODY)) as file:
        download = at(file, tmp_path)
    with pytest.raises(DownloadError, match="ConnectError"):
        fetch(download, no_progress)


def test_a_silent_server_is_an_error_after_the_read_timeout(tmp_path: Path) -> None:
    gate = threading.Event()
    with serving(ServedFile(BODY, gate=gate)) as file:
        download = Download(file.url, tmp_path / "x.pt", read_timeout=0.2)
        with pytest.raises(DownloadError, match="ReadTimeout"):
            fetch(download, no_progress)
        gate.set()


def test_a_folder_that_cannot_be_written_is_an_error_of_storage(tmp_path: Path) -> None:
    with serving(ServedFile(BODY)) as file, pytest.raises(StorageError, match="cannot write"):
        fetch(Download(file.url, tmp_path / "absent" / "x.pt"), no_progress)


def test_a_lock_that_cannot_be_made_is_an_error_and_not_waited_for() -> None:
    download = Download("http://127.0.0.1:9", Path("/proc/x.pt"))  # not even root makes files there
    with pytest.raises(StorageError, match=r"x\.pt\.lock"), locked(download, no_progress):
        raise AssertionError("nobody can hold it")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_status_that_passes_is_tried_again(
    tmp_path: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tries, "MAX_TRIES", 3)
    with serving(ServedFile(BODY, status=status, num_failures=2)) as file:
        download_whole(at(file, tmp_path))
        assert len(file.requests) == 3
    assert (tmp_path / "x.pt").read_bytes() == BODY


def test_a_transfer_that_breaks_off_again_and_again_is_continued_while_bytes_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tries, "MAX_TRIES", 2)
    with serving(ServedFile(BODY, cut_at=700_000, num_cuts=4)) as file:
        download_whole(at(file, tmp_path))
        assert len(file.requests) == 5
    assert (tmp_path / "x.pt").read_bytes() == BODY
