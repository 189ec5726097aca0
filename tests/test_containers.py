"""The Dockerfile and the compose files, held against each other and against the code."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from starlette.routing import Match

from server.cli import main
from server.engine import Engine
from server.leaving import LAST_REQUESTS_TIMEOUT
from server.routes import Routes
from server.settings import DEFAULT_CONFIG, ENV_PREFIX, Settings
from server.settings_load import variable_names
from tests.test_packaging import read_lock

ROOT = Path(__file__).parents[1]
COMPOSE = {"docker-compose.yml": "inference-api", "docker-compose.gpu.yml": "inference-api-gpu"}

Instructions = list[tuple[str, str]]


def read_dockerfile() -> Instructions:
    """(instruction, arguments) with continued lines joined and comments dropped."""
    lines = (
        line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")
    )
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [(line.split()[0], line.partition(" ")[2]) for line in joined.splitlines() if line.strip()]


def runs() -> list[str]:
    return [arguments for name, arguments in read_dockerfile() if name == "RUN"]


def awk(quoted: str, path: Path, *options: str) -> list[str]:
    """The lines that a program of the Dockerfile lets through, comments left out."""
    (program,) = shlex.split(quoted)
    done = subprocess.run(["awk", *options, program, path], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if not line.startswith("#")]


def final_stage(instructions: Instructions) -> Instructions:
    begins = max(place for place, (name, _) in enumerate(instructions) if name == "FROM")
    return instructions[begins:]


def one(instructions: Instructions, name: str) -> str:
    (arguments,) = [arguments for instruction, arguments in instructions if instruction == name]
    return arguments


def image_argument(name: str) -> str:
    """The default of a build argument, as the shell would see it."""
    words = [shlex.split(arguments)[0] for kind, arguments in read_dockerfile() if kind == "ARG"]
    (value,) = [value for key, _, value in (word.partition("=") for word in words) if key == name]
    return value


def image_environment() -> dict[str, str]:
    words = shlex.split(one(final_stage(read_dockerfile()), "ENV"))
    return dict(word.split("=", 1) for word in words)


def image_healthcheck() -> list[str]:
    arguments = one(final_stage(read_dockerfile()), "HEALTHCHECK")
    command: list[str] = json.loads(arguments.partition(" CMD ")[2])
    return command


def read_service(name: str) -> dict[str, Any]:
    service: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())["services"][COMPOSE[name]]
    return service


def container_port() -> int:
    return int(one(final_stage(read_dockerfile()), "EXPOSE"))


def known_variables() -> set[str]:
    return {
        variable for name, field in Settings.model_fields.items() for variable in variable_names(name, field)
    }


def test_everything_that_the_image_copies_is_there_and_not_ignored() -> None:
    copied = [
        source for name, arguments in read_dockerfile() if name == "COPY" for source in arguments.split()[:-1]
    ]
    copied += re.findall(r"--mount=type=bind,source=([^,\s]+)", " ".join(runs()))  # for one RUN
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(Path(source).match(pattern) for pattern in kept), f"{source} is kept out by .dockerignore"


def test_the_image_installs_only_what_has_a_hash_or_pytorchs_own_index() -> None:
    commands = [command for text in runs() for command in re.split(r"&&|;", text)]
    installs = [
        command
        for command in commands
        if re.search(r"(bin/pip |-m pip |\$install )", command) and "install=" not in command
    ]
    allowed = (
        "--require-hashes -r requirements-tools.lock",
        "--require-hashes -r requirements-needed.lock",
        "--require-hashes -r requirements-ray.lock",
        '--index-url "${TORCH_CPU_INDEX}"',
        "--no-index",
        "--no-build-isolation",
    )

    assert len(installs) == 7
    assert [command for command in installs if not any(words in command for words in allowed)] == []


def test_what_builds_the_wheel_is_the_locked_hatchling_and_all_that_it_needs() -> None:
    (script,) = re.findall(
        r"awk ('[^']+') requirements-dev\.lock > requirements-tools\.lock", " ".join(runs())
    )
    kept = awk(script, ROOT / "requirements-dev.lock")
    needed = {"hatchling"} | {
        canonicalize_name(found.name)
        for text in importlib.metadata.requires("hatchling") or []
        if (found := Requirement(text)).marker is None or found.marker.evaluate()
    }

    assert {line.partition("==")[0] for line in kept if "==" in line} == needed
    assert sum("--hash=sha256:" in line for line in kept) >= len(needed)
    assert all("==" in line or "--hash=sha256:" in line for line in kept)


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-cpu.lock"])
def test_the_image_installs_the_lock_without_what_it_leaves_out(lock: str) -> None:
    unneeded = image_argument("UNNEEDED_PACKAGES")
    ((pattern, program),) = re.findall(r"awk -v \"unneeded=(\S+)\" ('[^']+') \"\$1\"", " ".join(runs()))
    chosen = "-v", "unneeded=" + pattern.replace("${UNNEEDED_PACKAGES}", unneeded)
    lines = (ROOT / lock).read_text().splitlines()
    names = {line.partition("==")[0] for line in lines if line[:1].isalpha()}
    kept = awk(program, ROOT / lock, *chosen)

    assert set(unneeded.split("|")) < names
    assert {line.partition("==")[0] for line in kept if line[:1].isalpha()} == names - set(
        unneeded.split("|")
    )
    assert set(kept) <= set(lines)
    assert any(f"needed {lock};" in text for text in runs())


def ray_layer() -> str:
    """The command that adds Ray, without its mounts."""
    (found,) = [arguments for arguments in runs() if "${EXTRAS}" in arguments]
    return re.sub(r"--mount=\S+", "", found)


def builds(path: Path) -> list[str]:
    """The command lines that build an image with the extra."""
    lines = path.read_text().splitlines()
    return [found.strip("# ") for found in lines if "docker build" in found and "EXTRAS" in found]


def test_the_image_with_ray_is_built_by_the_line_that_three_places_say() -> None:
    manifest = ROOT / "deploy" / "kubernetes" / "rayservice.yaml"
    (line,) = builds(manifest)
    cluster = next(yaml.safe_load_all(manifest.read_text()))["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    images = {container["image"] for group in groups for container in group["template"]["spec"]["containers"]}
    (image,) = re.findall(r" -t (\S+) ", line)
    (value,) = re.findall(r"--build-arg EXTRAS=(\S+) ", line)

    assert builds(ROOT / "Dockerfile") == builds(ROOT / "README.md") == [line]
    assert images == {image}
    assert re.search(rf'case "\${{EXTRAS}}" in .*\b{value}\)', ray_layer())
    assert cluster["rayVersion"] == read_lock("requirements-ray.lock")["ray"]


@pytest.mark.parametrize(
    ("extras", "code", "said"), [("", 0, ""), ("rya", 1, "EXTRAS is ray or nothing, not 'rya'\n")]
)
def test_an_image_without_extras_gets_nothing_and_unknown_ones_are_refused(
    extras: str, code: int, said: str
) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", ray_layer()],
        env={"EXTRAS": extras, "PATH": "/nowhere"},
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stdout, done.stderr) == (code, "", said)
    assert image_argument("EXTRAS") == ""


def test_ray_comes_after_the_engines_packages_and_with_what_kuberays_probe_calls() -> None:
    stage = final_stage(read_dockerfile())
    order = [
        place
        for wanted in ("-r requirements-needed.lock", "EXTRAS=", "${EXTRAS}", "--no-index /dist/")
        for place, (_, arguments) in enumerate(stage)
        if wanted in arguments
    ]

    assert len(order) == 4 and order == sorted(order), "or the other layers would differ"
    assert "--no-install-recommends wget;" in ray_layer()
    assert not read_lock("requirements-ray.lock").keys() & set(image_argument("UNNEEDED_PACKAGES").split("|"))


def test_the_image_itself_holds_no_installer() -> None:
    made = [text for name, text in final_stage(read_dockerfile()) if name == "RUN" and "-m venv" in text]

    assert len(made) == 1 and "-m venv --without-pip /opt/venv;" in made[0]


def test_the_cpu_image_takes_torch_at_the_locked_version() -> None:
    (pattern,) = set(re.findall(r"grep -oE '([^']+)'", (ROOT / "Dockerfile").read_text()))
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    found = [match.group() for line in lines if (match := re.search(pattern, line))]

    assert [text.partition("==")[0] for text in found] == ["torch", "torchvision"]
    assert all(re.fullmatch(r"\w+==\d+\.\d+\.\d+", text) for text in found)
    assert pattern in (ROOT / "Makefile").read_text()


def test_the_image_does_not_run_as_root() -> None:
    stage = final_stage(read_dockerfile())
    order = [name for name, _ in stage]

    assert one(stage, "USER") == "engine"
    assert order.index("USER") < order.index("CMD")
    assert "RUN" not in order[order.index("USER") :]


def test_the_image_passes_signals_on_and_reaps() -> None:
    stage = final_stage(read_dockerfile())

    assert json.loads(one(stage, "ENTRYPOINT")) == ["tini", "--"]
    assert any("install --yes --no-install-recommends tini" in text for name, text in stage if name == "RUN")
    assert one(stage, "STOPSIGNAL") == "SIGTERM"


def test_the_image_starts_a_command_that_the_engine_understands(monkeypatch: pytest.MonkeyPatch) -> None:
    program, *arguments = json.loads(one(final_stage(read_dockerfile()), "CMD"))
    served: list[Settings] = []
    monkeypatch.setattr("server.serving.serve", lambda settings: served.append(settings) or 0)

    assert program == "inference-engine"
    assert main(arguments) == 0
    assert (served[0].host, served[0].port) == ("0.0.0.0", container_port())
    assert container_port() == Settings.model_fields["port"].default


def test_the_health_check_asks_the_port_and_a_route_that_are_served() -> None:
    *_, code = image_healthcheck()
    (port,) = re.findall(r"HTTPConnection\('127\.0\.0\.1', (\d+)", code)
    ((method, path),) = re.findall(r"request\('(\w+)', '([^']+)'\)", code)
    scope = {"type": "http", "method": method, "path": path, "headers": []}
    matches = [route for route in Routes(Engine(Settings())).table() if route.matches(scope)[0] is Match.FULL]

    compile(code, "HEALTHCHECK", "exec")
    assert int(port) == container_port()
    assert len(matches) == 1


def test_the_image_sets_only_variables_that_somebody_reads() -> None:
    libraries = {"HOME", "MPLCONFIGDIR", "NVIDIA_DRIVER_CAPABILITIES", "PATH"}
    libraries |= {"ULTRALYTICS_SETTINGS_DIR", "ULTRALYTICS_CONFIG_DIR"}
    python = {"PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}

    assert image_environment().keys() - libraries - python <= known_variables()


def test_downloaded_weights_lie_in_the_volume_and_the_rest_in_tmp() -> None:
    environment = image_environment()
    volume = one(final_stage(read_dockerfile()), "VOLUME")

    for name in ("HF_HOME", "HUGGINGFACE_HUB_CACHE", "ULTRALYTICS_CACHE_DIR"):
        assert Path(environment[name]).is_relative_to(volume)
    for name in ("HOME", "MPLCONFIGDIR"):
        assert Path(environment[name]).is_relative_to("/tmp")
    for name in ("YOLO_CONFIG_DIR", "ULTRALYTICS_SETTINGS_DIR", "ULTRALYTICS_CONFIG_DIR"):
        assert environment[name] == "/tmp/ultralytics"


def test_the_image_knows_what_it_was_made_for() -> None:
    assert image_environment()["ENGINE_ACCELERATOR"] == "${ACCELERATOR}"
    for name in ("cpu", "cuda"):
        assert Settings(accelerator=name).accelerator == name


@pytest.mark.parametrize("name", COMPOSE)
def test_a_compose_file_stands_alone(name: str) -> None:
    document = yaml.safe_load((ROOT / name).read_text())
    service = read_service(name)

    assert list(document["services"]) == [COMPOSE[name]]
    assert "extends" not in service
    assert "depends_on" not in service
    assert {volume.partition(":")[0] for volume in service["volumes"]} == set(document["volumes"])


def test_the_compose_files_can_run_side_by_side() -> None:
    first, second = map(read_service, COMPOSE)

    assert first["ports"] == [f"5000:{container_port()}"]
    assert second["ports"] == ["${ENGINE_PORT:-5001}:" + str(container_port())]
    assert first["image"] != second["image"]
    assert first["volumes"] == second["volumes"]


def test_the_compose_files_differ_in_the_accelerator_alone() -> None:
    ours = {"image", "build", "ports", "environment", "deploy"}
    first, second = map(read_service, COMPOSE)

    assert {key: first[key] for key in first.keys() - ours} == {
        key: second[key] for key in second.keys() - ours
    }
    assert first["build"]["args"] == {"ACCELERATOR": "cpu"}
    assert second["build"]["args"] == {"ACCELERATOR": "cuda"}
    assert set(first["environment"]) < set(second["environment"])
    (device,) = second["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    knobs = {"CUDA_VISIBLE_DEVICES", "TORCH_USE_CUDA_DSA", "CUDA_LAUNCH_BLOCKING", "PYTORCH_CUDA_ALLOC_CONF"}
    assert knobs <= set(second["environment"]), "without a value: passed on from the host"
    assert "ENGINE_DEVICE=${ENGINE_DEVICE:-auto}" in second["environment"]


@pytest.mark.parametrize("name", COMPOSE)
def test_a_compose_file_names_accelerators_that_the_dockerfile_builds(name: str) -> None:
    build = next(arguments for kind, arguments in read_dockerfile() if "${ACCELERATOR}" in arguments)

    assert re.search(rf"\b{read_service(name)['build']['args']['ACCELERATOR']}\)", build)


@pytest.mark.parametrize("name", COMPOSE)
def test_a_compose_file_sets_only_settings_that_exist(name: str) -> None:
    variables = [entry.partition("=") for entry in read_service(name)["environment"]]

    assert {key for key, _, _ in variables if key.startswith(ENV_PREFIX)} <= known_variables()
    for key, equals, value in variables:
        if equals:
            default = re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", value)
            Settings(**{key.removeprefix(ENV_PREFIX).lower(): default})


@pytest.mark.parametrize("name", COMPOSE)
def test_a_compose_service_is_confined(name: str) -> None:
    service = read_service(name)

    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] >= 1024
    assert service["ulimits"]["nofile"] >= 65536
    limits = service["mem_limit"], str(service["cpus"])
    assert limits == ("${ENGINE_MEMORY_LIMIT:-0}", "${ENGINE_CPUS:-0}"), "0 is no limit"
    assert "shm_size" not in service
    assert not service.keys() & {"privileged", "cap_add", "user", "network_mode", "pid", "ipc"}


@pytest.mark.parametrize("name", COMPOSE)
def test_a_compose_service_checks_its_health_as_the_image_does(name: str) -> None:
    service = read_service(name)
    arguments = one(final_stage(read_dockerfile()), "HEALTHCHECK")
    options = dict(word.removeprefix("--").split("=") for word in arguments.partition(" CMD ")[0].split())
    check = dict(service["healthcheck"])

    assert check.pop("test") == ["CMD", *image_healthcheck()]
    assert {key.replace("_", "-"): str(value) for key, value in check.items()} == options
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", COMPOSE)
def test_a_compose_service_is_given_time_to_drain(name: str) -> None:
    grace = float(read_service(name)["stop_grace_period"].removesuffix("s"))

    lame_duck, drain = (Settings.model_fields[field].default for field in ("lame_duck", "drain_timeout"))

    assert grace > lame_duck + LAST_REQUESTS_TIMEOUT + drain, "or requests in flight are cut off"


@pytest.mark.parametrize("name", COMPOSE)
def test_a_settings_file_can_be_mounted_where_the_image_reads_it(name: str) -> None:
    (path,) = re.findall(r"# - \./engine\.toml:(\S+):ro", (ROOT / name).read_text())
    workdirs = [arguments for kind, arguments in final_stage(read_dockerfile()) if kind == "WORKDIR"]

    assert Path(path) == Path(workdirs[-1]) / DEFAULT_CONFIG


@pytest.mark.parametrize("name", COMPOSE)
def test_the_models_volume_is_where_the_image_keeps_weights(name: str) -> None:
    assert read_service(name)["volumes"] == [f"models-cache:{one(final_stage(read_dockerfile()), 'VOLUME')}"]
