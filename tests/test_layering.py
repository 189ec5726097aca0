"""Who may import whom: read from every file, and checked once in a real interpreter."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"torch", "torchvision", "ultralytics", "transformers", "openvino", "onnxruntime", "tensorrt"}
HTTP = {"starlette", "uvicorn", "fastapi"}
ASSETS = ROOT / "models" / "demo"
"""Scripts that made the shipped weights; nothing imports them."""


def files(package: str) -> list[Path]:
    return sorted(path for path in (ROOT / package).rglob("*.py") if ASSETS not in path.parents)


def imports(path: Path, only_at_import: bool = False) -> Iterator[str]:
    """Full names of the modules that a file imports; `only_at_import` leaves out what functions import."""
    nodes: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        is_deferred = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        )
        if not (only_at_import and is_deferred):
            nodes.extend(ast.iter_child_nodes(node))


def top(names: Iterator[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", files("pool"), ids=str)
def test_the_pool_imports_the_standard_library_numpy_and_itself(path: Path) -> None:
    foreign = top(imports(path)) - set(sys.stdlib_module_names) - {"numpy", "pool"}
    assert not foreign


LIGHT_MODELS = {
    "models.accuracy",
    "models.spec",
    "models.catalogue",
    "models.weights",
    "models.errors",
    "models.parity",
    "models.stored",
    "models.traits",
}
"""What the front may read of the models: data and files, no torch."""
COMMANDS = {"quantisation.py": {"models.quantisation"}}
"""What a command that serves nothing may do besides, in its own process."""


@pytest.mark.parametrize("path", files("server"), ids=str)
def test_the_server_imports_no_heavy_library_and_no_adapter(path: Path) -> None:
    names = set(imports(path))
    assert not {name.split(".")[0] for name in names} & HEAVY
    ours = {name for name in names if name.startswith("models.")}
    assert {".".join(name.split(".")[:2]) for name in ours} <= LIGHT_MODELS | COMMANDS.get(path.name, set())
    assert not {name for name in names if name.startswith(("tests", "bench"))}


@pytest.mark.parametrize("path", files("models"), ids=str)
def test_models_know_neither_http_nor_processes_and_import_heavy_libraries_inside_functions(
    path: Path,
) -> None:
    assert not top(imports(path)) & (HTTP | {"pool", "server", "multiprocessing", "tests", "bench"})
    assert not top(imports(path, only_at_import=True)) & HEAVY


@pytest.mark.parametrize("path", files("bench"), ids=str)
def test_the_bench_needs_no_test(path: Path) -> None:
    assert "tests" not in top(imports(path))


CLIENTS = {
    "httpx",
    "httpcore",
    "requests",
    "urllib3",
    "aiohttp",
    "urllib.request",
    "http.client",
    "anyio",
    "huggingface_hub",
}
CLIENT_FILES = ("asynchronous", "calls", "connection_options", "errors", "exchange", "synchronous")
FETCHERS = {
    "server/fetch.py": {"httpx", "httpcore"},  # what requests ask for, through
    "server/dial.py": {"httpcore"},  # the guard
    **{
        f"server/client/{name}.py": {"httpx"} for name in CLIENT_FILES
    },  # what runs beside whoever asks an engine
    "server/predict/engine.py": {"httpx"},  # this process's own application
    "server/predict/run.py": {"httpx"},  # a reply's type
    "server/doctor/network_probe.py": {"httpx"},  # the hosts of weights, in a process of its own
    "models/download.py": {"httpx"},  # weights, whose addresses the operator chose
    "models/hub.py": {"huggingface_hub"},
}


def test_the_python_client_imports_httpx_pydantic_and_the_declared_replies() -> None:
    for path in files("server/client"):
        names = set(imports(path))
        assert top(iter(names)) <= set(sys.stdlib_module_names) | {"httpx", "pydantic", "server"}, path
        ours = {name for name in names if name.startswith("server.")}
        assert not {
            name
            for name in ours
            if not name.startswith(("server.client", "server.reply_schemas", "server.state_schemas"))
        }, path


def test_only_the_guarded_fetch_and_downloads_of_weights_import_an_http_client() -> None:
    found = {}
    for path in (path for package in ("server", "pool", "models") for path in files(package)):
        names = set(imports(path))
        clients = {client for client in CLIENTS if any(f"{name}.".startswith(f"{client}.") for name in names)}
        if clients:
            found[path.relative_to(ROOT).as_posix()] = clients
    assert found == FETCHERS


def test_only_the_settings_read_the_environment() -> None:
    readers = {
        path.relative_to(ROOT).as_posix()
        for package in ("server", "models")
        for path in files(package)
        if any(
            isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        )
    }
    writers = {"server/weights_commands.py", "server/quantisation.py"}
    assert readers <= {"server/settings_load.py", *writers}


def test_no_file_is_named_like_a_standard_module_or_against_the_words() -> None:
    banned = {"util", "utils", "common", "helper", "helpers", "misc", "manager", "data", "info"}
    for package in ("server", "pool", "models", "bench"):
        for path in files(package):
            assert path.stem not in set(sys.stdlib_module_names) - {"__main__"} | banned, path


def test_importing_the_app_leaves_what_most_requests_do_not_need() -> None:
    later = {"PIL", "httpx", "httpcore", "rich", "huggingface_hub", "filelock"}
    code = f"import sys, server.app, server.serving; print(sorted({later!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_importing_the_app_leaves_torch_alone() -> None:
    code = f"import sys, server.app, server.serving; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
