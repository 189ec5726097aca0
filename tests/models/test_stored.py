from __future__ import annotations

from pathlib import Path

from models.catalogue import CATALOGUE, operator_entry
from models.stored import stored_bytes
from models.weights import PACKAGE
from tests.models.blip_folder import save_blip


def test_a_shipped_file_is_always_there() -> None:
    entry = CATALOGUE["shapes-detect"]
    assert stored_bytes(entry.to_config()) == (PACKAGE / entry.weights).stat().st_size


def test_a_downloaded_file_is_looked_for_in_the_cache(tmp_path: Path) -> None:
    config = {**CATALOGUE["yolov8n"].to_config(), "cache_dir": str(tmp_path)}
    assert stored_bytes(config) is None
    (tmp_path / "yolov8n.pt").write_bytes(b"x" * 1234)
    assert stored_bytes(config) == 1234


def test_an_operators_file_or_folder_counts_whole(tmp_path: Path) -> None:
    assert stored_bytes(operator_entry("mine", tmp_path / "absent.pt").to_config()) is None
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_bytes(b"12345")
    assert stored_bytes(operator_entry("mine", folder, family="blip").to_config()) == 10


def test_a_repository_counts_only_if_all_of_it_is_here(tmp_path: Path) -> None:
    entry = CATALOGUE["blip-vqa-base"]
    config = {**entry.to_config(), "cache_dir": str(tmp_path), "offline": True}
    assert stored_bytes(config) is None
    repository = tmp_path / ("models--" + entry.weights.replace("/", "--"))
    revision = entry.revision or "main"
    commit = revision if len(revision) == 40 else "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    snapshot = repository / "snapshots" / commit
    snapshot.parent.mkdir()
    save_blip(snapshot)
    total = sum(file.stat().st_size for file in snapshot.iterdir())
    assert stored_bytes(config) == total
    next(snapshot.glob("*.safetensors")).unlink()
    assert stored_bytes(config) is None
