from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from server.reach import Reach
from server.settings_load import SettingsError, load_settings


@pytest.fixture(autouse=True)
def empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_everything_public_is_the_default() -> None:
    settings = load_settings()
    assert (settings.image_url, settings.reach) == ("public", Reach(None, (), (80, 443)))


def test_a_list_comes_with_commas_or_as_a_list(empty_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty_place / "engine.toml").write_text(
        'image_url = ["Images.example.", "*.b\u00fccher.example"]\nimage_url_networks = ["10.1.0.0/16"]\nimage_url_ports = [443, 9000]\n'
    )
    expected = Reach(("images.example", "*.xn--bcher-kva.example"), (ip_network("10.1.0.0/16"),), (443, 9000))
    assert load_settings().reach == expected
    (empty_place / "engine.toml").unlink()
    monkeypatch.setenv("ENGINE_IMAGE_URL", "Images.example., *.b\u00fccher.example")
    monkeypatch.setenv("ENGINE_IMAGE_URL_NETWORKS", "10.1.0.0/16")
    monkeypatch.setenv("ENGINE_IMAGE_URL_PORTS", "443,9000")
    assert load_settings().reach == expected
    assert load_settings({"image_url": "other.example"}).image_url == ("other.example",)


@pytest.mark.parametrize(("given", "expected"), [
    ({"image_url": ""}, "must be public, off, or a list of domains"), ({"image_url": "public, a.example"}, "must be public, off, or a list"),
    ({"image_url": "https://a.example"}, "'https://a.example' is no domain; write images.example.com or *.example.com"),
    ({"image_url": "a.example, 1.2"}, "'1.2' is neither a domain nor an address"), ({"image_url": "*"}, "'*' is no domain"),
    ({"image_url_networks": "10.0.0.0/8"}, "image_url_networks needs image_url to be a list of domains"),
    ({"image_url": "a.example", "image_url_networks": "10.0.0.1/8"}, "has host bits set"),
    ({"image_url": "a.example", "image_url_networks": "169.254.169.254/32"}, "lies in 169.254.0.0/16, which is never fetched from"),
    ({"image_url_ports": "0"}, "must be one port or several, of 1 to 65535"), ({"image_url_ports": ""}, "must be one port"), ({"image_url_ports": "x"}, "must be one port"),
])  # fmt: skip
def test_what_makes_no_sense_ends_the_start_with_one_clear_line(given: dict[str, str], expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(given)
    (line,) = caught.value.lines
    assert expected in line
