"""One examination: what is quick is looked at while the probes run beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pool import Pool, usable_cores
from server.device_plan import DevicePlan
from server.devices import NoSuchDeviceError
from server.doctor.access import check_access
from server.doctor.chosen import check_chosen
from server.doctor.decoders import check_decoders
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
from server.doctor.probe_set import ProbeSet
from server.doctor.processor import check_openvino, check_processor, read_processor
from server.doctor.versions import check_versions
from server.doctor.weights import check_stored, concerned, read_stored
from server.doctor.wheel import installed_wheel
from server.launch import Launching, converted_folder
from server.layouts import Layouts
from server.settings import Settings
from server.table import Known

MAX_DECODE_THREADS = 8
"""What `auto` takes at most."""
NETWORK_LIMIT = 20.0
ON_CPU = {"device": None, "dedicated": False, "replicas": None}


def examine(
    settings: Settings,
    known: Mapping[str, Known],
    given: Mapping[str, Any],
    variables: Mapping[str, str],
    probes: ProbeSet,
) -> list[Section]:
    """Every section; `given` are the command line's settings, `variables` the environment."""
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
    plan, missing_device = _plan(settings, len(driver.gpus))
    pools = _pools(settings, known, plan)
    quick = {
        "Memory and limits": [
            *check_room(settings, pools),
            check_decoders(settings.decode, probes.decoders.answer()),
        ],
        "Folders": check_folders(settings, variables, sources),
        "Weights": weights or [ok("weights", "no model is named or loads at start")],
        "Port": check_port(settings),
        "Keys": check_access(settings),
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
        settings.accelerator,
    )
    processor = check_processor(read_processor())
    layouts = Layouts(converted_folder(settings), usable_cores().num_cores)
    first: dict[str, list[Finding]] = {
        "Settings": check_chosen(settings, given),
        "Versions": check_versions(),
        "GPU": check_gpus(facts) + check_knobs(variables),
        "CPU": [*processor, check_openvino(probes.openvino.answer())],
        "Plan": [missing_device] if missing_device else check_plan(settings, pools, layouts),
    }
    return [Section(title, findings) for title, findings in {**first, **quick}.items()]


def _plan(settings: Settings, num_gpus: int) -> tuple[DevicePlan, Finding | None]:
    """Where models go; and what is wrong if the operator asked for a device that is not there: what follows is then
    reckoned for the CPU."""
    try:
        return DevicePlan(settings, num_gpus), None
    except NoSuchDeviceError as error:
        models = {name: table.model_copy(update=ON_CPU) for name, table in settings.models.items()}
        on_cpu = settings.model_copy(update={"device": "cpu", "models": models})
        finding = problem("plan", str(error), "correct `device` (or `replicas`) there; see the section GPU")
        return DevicePlan(on_cpu, 0), finding


def _pools(settings: Settings, known: Mapping[str, Known], plan: DevicePlan) -> dict[str, tuple[Known, Pool]]:
    """The pools of the models that load at start, made as the server makes them, and never started."""
    num_threads = MAX_DECODE_THREADS if settings.decode_threads == "auto" else settings.decode_threads
    launching = Launching(settings, num_threads, plan)
    at_start = {name: model for name, model in known.items() if model.loads_at_start}
    return {name: (model, launching.make_pool(model)) for name, model in at_start.items()}
