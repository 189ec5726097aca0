from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from models import tries
from models.catalogue import CATALOGUE
from models.errors import WeightsInvalidError, WeightsUnavailableError
from models.hub import known_sha256
from models.weights import resolve
from tests.models.fake_hub import FakeHub, serving

WEIGHTS = os.urandom(1_000_000)
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
FILES = {
    "model.safetensors": WEIGHTS,
    "config.json": b"{}",
    "preprocessor_config.json": b"{ }",
    "vocab.txt": b"[PAD]\n",
    "pytorch_model.bin": b"a pickle",
    "modeling_evil.py": b"print('no')",
}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "FIRST_PAUSE", 0.01)


def repository(**more: bytes) -> FakeHub:
    return FakeHub("Salesforce/blip-vqa-base", {**FILES, **more})


def blip(folder: Path, url: str, **more: Any) -> dict[str, Any]:
    return {**CATALOGUE["blip-vqa-base"].to_config(), "cache_dir": str(folder), "base_url": url, **more}


def test_a_repository_is_fetched_without_its_pickles_and_code(tmp_path: Path) -> None:
    with serving(repository()) as hub:
        resolved = resolve(blip(tmp_path, hub.url, sha256=SHA256))
    names = {path.name for path in resolved.path.iterdir()}
    assert names == {"model.safetensors", "config.json", "preprocessor_config.json", "vocab.txt"}
    assert resolved.sha256 == SHA256


def test_a_cached_repository_needs_no_request(tmp_path: Path) -> None:
    with serving(repository()) as hub:
        first = resolve(blip(tmp_path, hub.url))
        num_requests = len(hub.paths)
        assert resolve(blip(tmp_path, hub.url)) == first
        assert len(hub.paths) == num_requests
    assert resolve(blip(tmp_path, hub.url, offline=True)) == first
    assert first.sha256 == SHA256


def test_the_cache_names_the_weights_by_their_hash(tmp_path: Path) -> None:
    with serving(repository()) as hub:
        folder = resolve(blip(tmp_path, hub.url)).path
    assert known_sha256(folder / "model.safetensors") == SHA256
    elsewhere = tmp_path / "model.safetensors"
    shutil.copyfile(folder / "model.safetensors", elsewhere)
    assert known_sha256(elsewhere) is None


def test_a_repository_that_lost_a_file_is_completed(tmp_path: Path) -> None:
    with serving(repository()) as hub:
        folder = resolve(blip(tmp_path, hub.url)).path
        (folder / "model.safetensors").resolve().unlink()
        assert resolve(blip(tmp_path, hub.url)).sha256 == SHA256


def test_a_damaged_cache_is_found_by_a_pinned_hash(tmp_path: Path) -> None:
    with serving(repository()) as hub:
        folder = resolve(blip(tmp_path, hub.url)).path
        (folder / "model.safetensors").resolve().write_bytes(WEIGHTS[:-1])
        with pytest.raises(WeightsInvalidError):
            resolve(blip(tmp_path, hub.url, sha256=SHA256))


def test_progress_counts_bytes(tmp_path: Path) -> None:
    seen: list[Mapping[str, Any]] = []
    with serving(repository()) as hub:
        resolve(blip(tmp_path, hub.url), seen.append)
    total = sum(len(body) for name, body in FILES.items() if not name.endswith((".bin", ".py")))
    assert seen[-1] == {"stage": "download", "done_bytes": total, "total_bytes": total}


def test_a_repository_without_safetensors_is_unavailable(tmp_path: Path) -> None:
    hub = FakeHub(
        "Salesforce/blip-vqa-base", {k: v for k, v in FILES.items() if not k.endswith("safetensors")}
    )
    with serving(hub), pytest.raises(WeightsUnavailableError, match=r"lacks model\.safetensors"):
        resolve(blip(tmp_path, hub.url))


@pytest.mark.parametrize("status", [404, 500])
def test_a_hub_that_fails_is_unavailable(tmp_path: Path, status: int) -> None:
    hub = repository()
    hub.status = status
    with (
        serving(hub),
        pytest.raises(WeightsUnavailableError, match=r"pull blip-vqa-base.*HUGGINGFACE_HUB_CACHE"),
    ):
        resolve(blip(tmp_path, hub.url))


def test_an_unreachable_hub_is_unavailable(tmp_path: Path) -> None:
    with serving(repository()) as hub:
        url = hub.url
    with pytest.raises(WeightsUnavailableError):
        resolve(blip(tmp_path, url))


def test_offline_an_absent_repository_is_unavailable_without_a_request(tmp_path: Path) -> None:
    with serving(repository()) as hub:
        with pytest.raises(WeightsUnavailableError, match="downloads are off"):
            resolve(blip(tmp_path, hub.url, offline=True))
        assert not hub.paths
