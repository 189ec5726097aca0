from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from server.settings import Settings
from server.settings_groups import GROUPS
from server.settings_load import SettingsError, load_settings
from server.settings_table import flag, settings_table


@pytest.fixture(autouse=True)
def empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory without engine.toml, an environment without our variables."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "HF_HOME",
        "HUGGINGFACE_HUB_CACHE",
        "ULTRALYTICS_CACHE_DIR",
        "YOLO_CONFIG_DIR",
        "CUDA_VISIBLE_DEVICES",
    ):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path


def lines_of(**command_line: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(command_line)
    return caught.value.lines


def test_the_defaults_are_the_documented_ones() -> None:
    settings = load_settings()
    assert (settings.host, settings.port, settings.deadline, settings.load_timeout) == (
        "127.0.0.1",
        5000,
        30.0,
        120.0,
    )
    assert (settings.max_body_bytes, settings.max_json_bytes) == (20 * 2**20, 28 * 2**20)
    assert (settings.max_image_pixels, settings.max_image_side) == (24_000_000, 16_384)
    assert settings.load_at_start is None


def test_command_line_beats_environment_beats_file_beats_default(
    empty_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty_place / "engine.toml").write_text('port = 1\nhost = "a"\ndeadline = 5\nreplicas = 3\n')
    monkeypatch.setenv("ENGINE_PORT", "2")
    monkeypatch.setenv("ENGINE_HOST", "b")
    settings = load_settings({"port": "3"})
    assert (settings.port, settings.host, settings.deadline, settings.replicas) == (3, "b", 5.0, 3)
    assert settings.max_batch_size == 8


def test_another_file_can_be_named(empty_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty_place / "other.toml").write_text("port = 7\n")
    assert load_settings({"config": "other.toml"}).port == 7
    monkeypatch.setenv("ENGINE_CONFIG", "other.toml")
    assert load_settings().port == 7


def test_usual_variables_keep_their_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUGGINGFACE_HUB_CACHE", "/hub")
    monkeypatch.setenv("HF_HOME", "/home")
    monkeypatch.setenv("ULTRALYTICS_CACHE_DIR", "/yolo")
    monkeypatch.setenv("YOLO_CONFIG_DIR", "/config")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    settings = load_settings()
    assert (settings.huggingface_hub_cache, settings.hf_home) == (Path("/hub"), Path("/home"))
    assert (settings.ultralytics_cache_dir, settings.yolo_config_dir) == (Path("/yolo"), Path("/config"))
    assert settings.cuda_visible_devices == ""


def test_usual_variables_can_stand_in_the_file_and_on_the_command_line(empty_place: Path) -> None:
    (empty_place / "engine.toml").write_text('ultralytics_cache_dir = "/yolo"\nhf_home = "/x"\n')
    settings = load_settings({"hf_home": "/y"})
    assert (settings.ultralytics_cache_dir, settings.hf_home) == (Path("/yolo"), Path("/y"))


def test_lists_are_split_at_commas(empty_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty_place / "engine.toml").write_text('load_at_start = ["a", "b"]\n')
    assert load_settings().load_at_start == ("a", "b")
    monkeypatch.setenv("ENGINE_LOAD_AT_START", " c , d ")
    assert load_settings().load_at_start == ("c", "d")
    assert load_settings({"load_at_start": ""}).load_at_start == ()


def test_models_are_tables_with_weights_beside_the_file(empty_place: Path) -> None:
    folder = empty_place / "conf"
    folder.mkdir()
    sha256 = "0" * 64
    (folder / "e.toml").write_text(
        f'[models.mine]\nweights = "w/mine.pt"\nsha256 = "{sha256}"\nimgsz = 320\nreplicas = 2\n'
    )
    model = load_settings({"config": str(folder / "e.toml")}).models["mine"]
    assert (model.weights, model.sha256, model.imgsz, model.replicas) == (
        folder / "w/mine.pt",
        sha256,
        320,
        2,
    )


def test_models_are_json_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_MODELS", json.dumps({"mine": {"weights": "/w.pt"}}))
    assert load_settings().models["mine"].weights == Path("/w.pt")
    monkeypatch.setenv("ENGINE_MODELS", "{")
    assert "must be a JSON object" in lines_of()[0]


def test_settings_are_frozen() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]


def test_a_file_that_is_not_there_is_said(empty_place: Path) -> None:
    assert "nowhere.toml cannot be read" in lines_of(config="nowhere.toml")[0]


def test_an_unknown_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_PROT", "1")
    assert lines_of() == ["environment ENGINE_PROT='1': unknown setting; did you mean ENGINE_PORT?"]


def test_what_may_be_a_secret_is_not_shown_even_where_it_does_not_belong(
    empty_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINE_API_KEYS", "Xsecret")
    assert lines_of()[0].startswith("environment ENGINE_API_KEYS=***: unknown setting; did you mean")
    monkeypatch.delenv("ENGINE_API_KEYS")
    (empty_place / "engine.toml").write_text('api_keys = ["Xsecret"]\n')
    assert "api_keys = *** (engine.toml)" in lines_of()[0] and "Xsecret" not in lines_of()[0]


def test_the_place_of_a_wrong_value_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_PORT", "x")
    assert "(environment ENGINE_PORT)" in lines_of()[0]
    assert "(command line --max-batch-size)" in lines_of(max_batch_size="x", port="1")[0]


def test_the_table_has_a_row_for_every_setting_and_its_defaults_load(empty_place: Path) -> None:
    rows = [row for row in settings_table().splitlines() if "`--" in row]
    names = [name for group in GROUPS.values() for name in group]
    assert sorted(names) == sorted(Settings.model_fields)
    for name, row in zip(names, rows, strict=True):
        field = Settings.model_fields[name]
        assert flag(name) in row
        assert field.description and field.description in row
    assert "`28` MiB" not in settings_table()
    assert "(28 MiB)" in settings_table()


def test_the_table_is_plain_markdown() -> None:
    for block in settings_table().split("\n\n"):
        counts = {row.count("|") - row.count(r"\|") for row in block.strip().splitlines()}
        assert counts == {6} or (counts == {0} and block.startswith("**"))
