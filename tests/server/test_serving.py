from __future__ import annotations

import socket
from pathlib import Path

import pytest

from server.listener import listen
from server.serving import base_url, serve, warn_if_open, welcome
from server.settings import Settings


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", "http://127.0.0.1:{}"), ("0.0.0.0", "http://127.0.0.1:{}"), ("localhost", None)],
)
def test_the_address_is_one_that_a_client_here_can_use(host: str, expected: str | None) -> None:
    with listen(host, 0) as listener:
        url = base_url(listener)
        if expected is not None:
            assert url == expected.format(listener.getsockname()[1])
        with socket.create_connection(listener.getsockname()[:2], timeout=5):
            pass


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_an_ipv6_address_is_in_brackets() -> None:
    try:
        listener = listen("::1", 0)
    except OSError:
        pytest.skip("no IPv6 address here")
    with listener:
        assert base_url(listener) == f"http://[::1]:{listener.getsockname()[1]}"


def test_a_port_in_use_is_an_error_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_the_line_to_try_can_be_pasted_wherever_the_server_was_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = Path(__file__).resolve().parents[2]
    for folder in (root, tmp_path):
        monkeypatch.chdir(folder)
        line = welcome("http://h:1").splitlines()[1]
        sample = line.split("image=@")[1].split()[0]
        assert Path(sample).is_file(), line
        assert line.endswith("http://h:1/inference")
    monkeypatch.chdir(root)
    assert "image=@models/demo/samples/sample.jpg" in welcome("")


def test_the_line_to_try_has_a_key_where_one_is_needed() -> None:
    assert "-H 'Authorization: Bearer KEY' -F model_id" in welcome("http://h:1", needs_key=True)
    assert "Bearer" not in welcome("http://h:1")


@pytest.mark.parametrize(("host", "num_lines"), [
    ("127.0.0.1", 0), ("::1", 0), ("0.0.0.0", 1), ("::", 1), ("192.0.2.1", 1), ("2001:db8::1", 1),
])  # fmt: skip
def test_no_keys_beyond_loopback_is_said_loudly(
    host: str, num_lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    warn_if_open(host, 5000)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * num_lines
    assert all(
        f"NO API KEYS: whoever reaches {host} port 5000" in record.getMessage() for record in caplog.records
    )


@pytest.mark.parametrize(("content", "part"), [
    (None, "cannot be read: No such file"), ("", "holds no key"), ("damaged", "not valid TOML (at "),
])  # fmt: skip
def test_a_keys_file_that_cannot_be_used_is_a_reason_not_to_start(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: str | None,
    part: str,
) -> None:
    monkeypatch.setattr("server.serving.configure_log", lambda *arguments: None)
    path = tmp_path / "keys.toml"
    if content is not None:
        path.write_text(content)
    assert serve(Settings(keys_file=path, port=0, load_at_start=(), cuda_visible_devices="")) == 78
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"inference-engine: keys file {path}") and part in line
