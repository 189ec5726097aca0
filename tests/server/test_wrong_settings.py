"""What is refused at start, and how it is said: name, value, place and what is allowed, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from server import cli
from server.settings import Settings
from server.settings_load import SettingsError, load_settings, variable_names

REPLICAS = "must be 'auto' or a whole number of at least 1"
DEVICE = "must be auto, cpu, cuda or GPUs such as cuda:0 or cuda:0,cuda:2"
PER_GPU = (
    "must be 'auto', a whole number of at least 1 or a table with a whole number of at least 1, at most 64 for a GPU "
    "such as cuda:0"
)
DOMAINS = "must be public, off, or a list of domains such as images.example.com, *.example.org"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without engine.toml, an environment without settings."""
    monkeypatch.chdir(tmp_path)
    for name, field in Settings.model_fields.items():
        for variable in variable_names(name, field):
            monkeypatch.delenv(variable, raising=False)
    return tmp_path


def lines_of(**command_line: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(command_line)
    return caught.value.lines


@pytest.mark.parametrize(("toml", "line"), [
    ("prot = 1", "prot = 1 (engine.toml): unknown setting; did you mean port?"),
    ("[serve]\nport = 1", "serve = {'port': 1} (engine.toml): unknown setting; engine.example.toml shows all there are"),
    ("port = 70000", "port = 70000 (engine.toml): must be a whole number of at least 0, at most 65535"),
    ('host = ""', "host = '' (engine.toml): must be a text that is not empty"),
    ('replicas = "x"', f"replicas = 'x' (engine.toml): {REPLICAS}"), ("replicas = 0", f"replicas = 0 (engine.toml): {REPLICAS}"),
    ("replicas = 1.5", f"replicas = 1.5 (engine.toml): {REPLICAS}"),
    ('device = "gpu"', f"device = 'gpu' (engine.toml): {DEVICE}"), ("device = 0", f"device = 0 (engine.toml): {DEVICE}"),
    ("deadline = inf", "deadline = inf (engine.toml): must be a number above 0, at most 86400"),
    ('offline = "maybe"', "offline = 'maybe' (engine.toml): must be true or false"),
    ("load_at_start = 5", "load_at_start = 5 (engine.toml): must be a list, or words with commas between them"),
    ('on_demand = "some"', "on_demand = 'some' (engine.toml): must be 'all', 'listed' or 'off'"),
    ("keys_file = 5", "keys_file = 5 (engine.toml): must be a path"),
    ("image_url = 5", f"image_url = 5 (engine.toml): {DOMAINS}"), ("image_url = []", f"image_url = [] (engine.toml): {DOMAINS}"),
    ('image_url_ports = "x"', "image_url_ports = 'x' (engine.toml): must be one port or several, of 1 to 65535"),
    ('hf_endpoint = "hub"', "hf_endpoint = 'hub' (engine.toml): must be an address that begins with http:// or https://, without blanks"),
    ('memory_budget = "8g"', "memory_budget = '8g' (engine.toml): must be a whole number of at least 1024"),
    ("models = 5", "models = 5 (engine.toml): must be a table for each name"),
    ("[models.m]\nreplicas = {cpu = 2}", f"models.m.replicas = {{'cpu': 2}} (engine.toml): {PER_GPU}"),
    ("[models.m]\nreplicas = 0", f"models.m.replicas = 0 (engine.toml): {PER_GPU}"),
    ("[models.m]\ndevice = 'cuda:x'", f"models.m.device = 'cuda:x' (engine.toml): {DEVICE}"),
    ("[models.m]\nimgsz = 100", "models.m.imgsz = 100 (engine.toml): must be a whole number of at least 32, at most 4096, a multiple of 32"),
    ("[models.m]\nsha256 = 'xyz'", "models.m.sha256 = 'xyz' (engine.toml): must be 64 signs of 0-9a-f, as sha256sum prints them"),
    ("[models.m]\nsha = 'x'", "models.m.sha = 'x' (engine.toml): unknown setting; did you mean sha256?"),
    ("[models.m]\ndedicated = true", "models.m = {'dedicated': True} (engine.toml): dedicated is about GPUs: device or replicas must name them"),
    ('[models."../x"]', "models = {'../x': {}} (engine.toml): model name '../x' must be 1 to 64 letters, digits, dots, dashes, underscores"),
    ("max_in_flight_bytes = 1024", "max_in_flight_bytes = 1024 (engine.toml): max_in_flight_bytes must hold at least one body (max_json_bytes, max_body_bytes)"),
])  # fmt: skip
def test_a_wrong_setting_of_the_file_is_one_line_with_what_is_allowed(
    place: Path, toml: str, line: str
) -> None:
    (place / "engine.toml").write_text(toml + "\n")

    assert lines_of() == [line]


@pytest.mark.parametrize(("variable", "value", "line"), [
    ("ENGINE_PORT", "x", "port = 'x' (environment ENGINE_PORT): must be a whole number of at least 0, at most 65535"),
    ("ENGINE_REPLICAS", "many", f"replicas = 'many' (environment ENGINE_REPLICAS): {REPLICAS}"),
    ("ENGINE_MODELS", "{", "models = '{' (environment ENGINE_MODELS): must be a JSON object"),
    ("ENGINE_PROT", "1", "environment ENGINE_PROT='1': unknown setting; did you mean ENGINE_PORT?"),
    ("HF_ENDPOINT", "hub", "hf_endpoint = 'hub' (environment HF_ENDPOINT): must be an address that begins with http:// or https://, without blanks"),
])  # fmt: skip
def test_a_wrong_variable_is_one_line_with_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, line: str
) -> None:
    monkeypatch.setenv(variable, value)

    assert lines_of() == [line]


@pytest.mark.parametrize(("arguments", "line"), [
    (["--port", "x"], "port = 'x' (command line --port): must be a whole number of at least 0, at most 65535"),
    (["--max-batch-size", "0"], "max_batch_size = '0' (command line --max-batch-size): must be a whole number of at least 1, at most 1024"),
    (["--prot", "1"], "command line --prot: unknown setting; did you mean --port?"),
    (["--prot=1"], "command line --prot: unknown setting; did you mean --port?"),
    (["8080"], "command line 8080: unknown setting; engine.example.toml shows all there are"),
    (["--config", "no.toml"], "no.toml cannot be read: [Errno 2] No such file or directory: 'no.toml'"),
])  # fmt: skip
def test_serve_ends_with_78_and_one_line_for_a_wrong_flag(
    capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    assert cli.main(["serve", *arguments]) == 78

    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"inference-engine: {line}\n")


def test_each_wrong_setting_has_a_line_of_its_own(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "engine.toml").write_text('deadline = 0\n[models.m]\nreplicas = "x"\n')
    monkeypatch.setenv("ENGINE_THREADS", "0")

    lines = lines_of(port="-1")

    assert [line.partition(" ")[0] for line in lines] == ["port", "threads", "deadline", "models.m.replicas"]
    assert all("Input should" not in line for line in lines)


def test_a_rule_about_several_settings_names_those_that_were_set(place: Path) -> None:
    (place / "engine.toml").write_text('image_url_networks = ["10.1.0.0/16"]\n')

    (line,) = lines_of(image_url="off")

    assert "image_url_networks = ['10.1.0.0/16'] (engine.toml)" in line
    assert "image_url = 'off' (command line --image-url)" in line


@pytest.mark.parametrize("toml", [
    'api_keys = ["Xsecret"]', '[models.m]\napi_token = "Xsecret"', '[serve]\napi_key = "Xsecret"', '[a.b]\npassword = "Xsecret"',
    'yolo_weights_url = "https://user:Xsecret@mirror/a b"', 'mirrors = ["https://user:Xsecret@mirror/"]',
])  # fmt: skip
def test_what_may_be_secret_is_not_shown_however_deep_it_lies(place: Path, toml: str) -> None:
    (place / "engine.toml").write_text(toml + "\n")

    (line,) = lines_of()

    assert "***" in line and "Xsecret" not in line


def test_every_setting_has_words_for_what_it_may_be(place: Path) -> None:
    """None of pydantic's own wording is left: a table is a wrong value for all but `models`."""
    names = [name for name in Settings.model_fields if name not in ("config", "models")]
    (place / "engine.toml").write_text("".join(f"[{name}]\nwrong = 1\n" for name in names))

    lines = lines_of()

    assert len(lines) == len(names)
    for name, line in zip(names, lines, strict=True):
        assert line.startswith(f"{name} = {{'wrong': 1}} (engine.toml): must be "), line
