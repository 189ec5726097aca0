from __future__ import annotations

from pathlib import Path

import pytest

from server.app import STARTUP_FAILURE, create_app, num_front_processes
from server.settings import Settings


@pytest.mark.parametrize(("arguments", "default", "expected"), [
    (["uvicorn", "server.app:create_app", "--factory"], 1, 1), (["uvicorn", "a", "--workers", "4"], 1, 4),
    (["uvicorn", "a", "--workers=2"], 1, 2), (["gunicorn", "-w", "3", "a"], 1, 3), (["uvicorn", "a", "--workers", "1"], 4, 1),
    (["uvicorn", "a"], 4, 4), (["uvicorn", "a", "--workers"], 1, 1), (["uvicorn", "--workers", "x"], 1, 1),
])  # fmt: skip
def test_front_processes_are_counted(arguments: list[str], default: int, expected: int) -> None:
    assert num_front_processes(arguments, default) == expected


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """No engine.toml, no other arguments; logging stays pytest's. Gives what was logged."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("server.app.configure_log", lambda *arguments: None)
    monkeypatch.setattr("sys.argv", ["uvicorn", "server.app:create_app", "--factory"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return []


@pytest.mark.usefixtures("quiet")
async def test_under_another_server_it_works_and_says_what_is_missing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = create_app()
    assert "not started by" in caplog.text
    assert {"/inference", "/models", "/healthz", "/docs"} <= {route.path for route in app.routes}  # type: ignore[attr-defined]


@pytest.mark.usefixtures("quiet")
def test_several_front_processes_are_refused_for_good(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    with pytest.raises(SystemExit) as caught:
        create_app()
    assert caught.value.code == STARTUP_FAILURE
    assert "replicas, not --workers" in caplog.text


@pytest.mark.usefixtures("quiet")
def test_wrong_settings_end_it_for_good(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ENGINE_PORT", "x")
    with pytest.raises(SystemExit) as caught:
        create_app()
    assert caught.value.code == STARTUP_FAILURE
    assert "port = 'x' (environment ENGINE_PORT)" in caplog.text


async def test_settings_can_be_given() -> None:
    app = create_app(Settings(load_at_start=(), cuda_visible_devices=""))
    assert app.state.engine.settings.load_at_start == ()
