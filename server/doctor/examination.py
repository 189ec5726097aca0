"""One examination: probes are started first and run beside each other, what is quick is looked at meanwhile."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pool import Pool
from server.decode import default_num_threads
from server.devices import NoSuchDeviceError, pick_devices
from server.doctor.chosen import check_chosen
from server.doctor.finding import Finding, Section, ok, problem
from server.doctor.folders import check_folders
from server.doctor.gpu import check_gpus
from server.doctor.gpu_facts import Driver, GpuFacts, Torch, device_nodes, gpus_on_bus
from server.doctor.knobs import check_knobs
from server.doctor.memory import check_room
from server.doctor.network import argument, check_network, questions
from server.doctor.plan import check_plan
from server.doctor.port import check_port
from server.doctor.probe import Answer, Probe
from server.doctor.processor import check_openvino, check_processor, read_processor
from server.doctor.report import Report
from server.doctor.versions import check_versions
from server.doctor.weights import check_stored, concerned, read_stored
from server.doctor.wheel import installed_wheel
from server.launch import Launching
from server.settings import Settings
from server.settings_load import SettingsError, environment, load_settings
from server.table import Known, known_models

DRIVER_LIMIT = 15.0
TORCH_LIMIT = 90.0
"""A cold disk, and a context on each of several GPUs."""
NETWORK_LIMIT = 10.0


def examine(given: Mapping[str, Any]) -> Report:
    """Look at everything; `given` is the command line's settings."""
    started = time.monotonic()
    try:
        settings = load_settings(given)
        known = known_models(settings)
    except SettingsError as error:
        # Most other checks would be about settings that nobody chose.
        wrong = [
            problem("settings", line, "correct it where it was set; README lists what is allowed")
            for line in error.lines
        ]
        sections = [Section("Settings", wrong), Section("Versions", check_versions())]
    else:
        sections = _examine(settings, known, given)
    return Report(sections, time.monotonic() - started)


@dataclass(frozen=True, slots=True)
class _Probes:
    """What runs beside the rest."""

    driver: Probe
    torch: Probe
    openvino: Probe

    @classmethod
    def start(cls, settings: Settings, variables: Mapping[str, str]) -> _Probes:
        # As workers will see the GPUs; and where none is to be used a driver that hangs shall not matter.
        visible = "" if settings.device == "cpu" else settings.cuda_visible_devices
        shown = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
        return cls(
            Probe("server.doctor.driver_probe", variables, DRIVER_LIMIT),
            Probe("models.probes.torch_probe", {**variables, **shown}, TORCH_LIMIT),
            Probe("models.probes.openvino_probe", variables, TORCH_LIMIT),
        )


def _examine(settings: Settings, known: Mapping[str, Known], given: Mapping[str, Any]) -> list[Section]:
    variables = environment()
    probes = _Probes.start(settings, variables)
    wanted = {model.entry.model_id: model for model in concerned(known.values())}
    stored = {name: read_stored(settings, model) for name, model in wanted.items()}
    missing = [model for name, model in wanted.items() if stored[name].size is None]
    asked = questions(settings, [(model.entry, model.loads_at_start) for model in missing])
    network = (
        Probe("server.doctor.network_probe", variables, NETWORK_LIMIT, argument(asked)) if asked else None
    )
    sources = frozenset(model.entry.source for model in missing if model.loads_at_start)
    weights = [
        each for name, model in wanted.items() for each in check_stored(model, stored[name], settings.offline)
    ]
    driver = Driver.read(probes.driver.answer())
    pools = _pools(settings, known, len(driver.gpus))
    quick = {
        "Memory and limits": check_room(settings, pools),
        "Folders": check_folders(settings, variables, sources),
        "Weights": weights or [ok("weights", "no model is named or loads at start")],
        "Port": check_port(settings),
        "Network": check_network(settings, asked, network.answer() if network else Answer(), variables),
    }
    facts = GpuFacts(
        settings.device,
        settings.cuda_visible_devices,
        driver,
        Torch.read(probes.torch.answer()),
        installed_wheel(),
        gpus_on_bus(),
        device_nodes(),
    )
    processor = check_processor(read_processor())
    first: dict[str, list[Finding]] = {
        "Settings": check_chosen(settings, given),
        "Versions": check_versions(),
        "GPU": check_gpus(facts) + check_knobs(variables),
        "CPU": [*processor, check_openvino(probes.openvino.answer())],
        "Plan": check_plan(settings, pools),
    }
    return [Section(title, findings) for title, findings in {**first, **quick}.items()]


def _pools(settings: Settings, known: Mapping[str, Known], num_gpus: int) -> dict[str, tuple[Known, Pool]]:
    """The pools of the models that load at start, made as the server makes them, and never started."""
    try:
        devices = pick_devices(settings.device, settings.cuda_visible_devices, num_gpus)
    except NoSuchDeviceError:  # said among the GPUs
        devices = ("cpu",)
    num_threads = default_num_threads() if settings.decode_threads == "auto" else settings.decode_threads
    launching = Launching(settings, num_threads, devices)
    at_start = {name: model for name, model in known.items() if model.loads_at_start}
    return {name: (model, launching.make_pool(model)) for name, model in at_start.items()}
