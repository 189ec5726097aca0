from __future__ import annotations

from pathlib import Path

import pytest

from server.doctor.chosen import check_chosen
from server.settings_load import load_settings


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (
        "HF_ENDPOINT",
        "HF_HOME",
        "YOLO_CONFIG_DIR",
        "CUDA_VISIBLE_DEVICES",
        "ULTRALYTICS_CACHE_DIR",
    ):
        monkeypatch.delenv(name, raising=False)


def test_defaults_are_one_line() -> None:
    assert [each.text for each in check_chosen(load_settings(), {})] == ["every setting has its default"]


def test_each_setting_is_told_with_where_it_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "engine.toml").write_text(
        'max_batch_size = 4\nport = 1\n[models.mine]\nweights = "mine.pt"\n'
    )
    monkeypatch.setenv("ENGINE_OFFLINE", "true")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    given = {"port": "6000"}
    assert {each.text for each in check_chosen(load_settings(given), given)} == {
        "port = 6000 (command line --port)",
        "max_batch_size = 4 (engine.toml)",
        "offline = true (environment ENGINE_OFFLINE)",
        "cuda_visible_devices = '' (environment CUDA_VISIBLE_DEVICES)",
        "models = mine (engine.toml)",
    }


def test_user_and_password_of_an_address_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://me:secret@mirror:8080")
    assert [each.text for each in check_chosen(load_settings(), {})] == [
        "hf_endpoint = https://***@mirror:8080 (environment HF_ENDPOINT)"
    ]


def test_a_long_address_shows_no_more_for_being_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"https://me:{'secret' * 40}@mirror")
    (found,) = check_chosen(load_settings(), {})
    assert "secret" not in found.text
