"""What is under deploy/kubernetes/, held against Kubernetes' schemas, the image and the code."""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from starlette.routing import Match

from pool.limits import Limits
from server.engine import Engine
from server.leaving import LAST_REQUESTS_TIMEOUT
from server.metrics_table import described
from server.routes import Routes
from server.settings import ENV_PREFIX, Settings
from tests.test_containers import container_port, final_stage, known_variables, one, read_dockerfile

FOLDER = Path(__file__).parents[1] / "deploy" / "kubernetes"
SCHEMAS = Path(__file__).parent / "schemas"
PLAIN = ("cpu.yaml", "gpu.yaml")
ALL = (*PLAIN, "rayservice.yaml", "inferenceservice.yaml")
KINDS = {
    "Deployment": "io.k8s.api.apps.v1.Deployment",
    "Service": "io.k8s.api.core.v1.Service",
    "PodDisruptionBudget": "io.k8s.api.policy.v1.PodDisruptionBudget",
    "HorizontalPodAutoscaler": "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
}

Document = dict[str, Any]


def read(name: str) -> dict[str, Document]:
    """The documents of a file by their kind."""
    documents = list(yaml.safe_load_all((FOLDER / name).read_text()))
    found = {document["kind"]: document for document in documents}
    assert len(found) == len(documents)
    return found


@cache
def validator(kind: str) -> jsonschema_rs.Draft202012Validator:
    core = json.loads((SCHEMAS / "kubernetes-1.34.json").read_text())
    schema = {"$ref": f"#/$defs/{KINDS[kind]}"} if kind in KINDS else {}
    if not schema:
        text = (SCHEMAS / f"{kind.lower()}.json").read_text()
        schema = json.loads(text.replace("kubernetes-1.34.json#", "#"))
    return jsonschema_rs.Draft202012Validator({**schema, "$defs": core["$defs"]})


def problems(document: Document) -> list[str]:
    return [str(error.message) for error in validator(document["kind"]).iter_errors(document)]


def engine_pod(name: str) -> Document:
    """The pod that an engine runs in."""
    documents = read(name)
    if "RayService" in documents:
        (group,) = documents["RayService"]["spec"]["rayClusterConfig"]["workerGroupSpecs"]
        return dict(group["template"]["spec"])
    if "InferenceService" in documents:
        return dict(documents["InferenceService"]["spec"]["predictor"])
    return dict(documents["Deployment"]["spec"]["template"]["spec"])


def engine_container(name: str) -> Document:
    (container,) = engine_pod(name)["containers"]
    return dict(container)


def environment(name: str) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in engine_container(name)["env"]}


def every_pod() -> Iterator[Document]:
    yield from map(engine_pod, ALL)
    yield read("rayservice.yaml")["RayService"]["spec"]["rayClusterConfig"]["headGroupSpec"]["template"][
        "spec"
    ]


def settings_of(name: str) -> Settings:
    given = {
        key.removeprefix(ENV_PREFIX).lower(): value
        for key, value in environment(name).items()
        if key.startswith(ENV_PREFIX)
    }
    return Settings(**given)


def default(name: str) -> Any:
    return Settings.model_fields[name].default


@pytest.mark.parametrize("name", ALL)
def test_a_manifest_is_what_its_schema_allows(name: str) -> None:
    for document in read(name).values():
        assert problems(document) == [], document["kind"]


@pytest.mark.parametrize("name", ALL)
def test_an_unknown_field_anywhere_in_a_pod_is_refused(name: str) -> None:
    for place in ("probe", "pod", "container"):
        text = (FOLDER / name).read_text()
        wrong = {
            "probe": ("runAsNonRoot:", "runAsNonroot:"),
            "pod": ("enableServiceLinks:", "enableServicelinks:"),
            "container": ("readOnlyRootFilesystem:", "readOnlyRootFileSystem:"),
        }[place]
        documents = list(yaml.safe_load_all(text.replace(*wrong)))

        assert text.count(wrong[0]) > 0
        assert any(problems(document) for document in documents), place


def test_a_value_of_the_wrong_kind_is_refused() -> None:
    document = read("cpu.yaml")["Deployment"]
    document["spec"]["replicas"] = "two"

    assert len(problems(document)) == 1


@pytest.mark.parametrize("name", PLAIN)
def test_a_file_brings_all_that_a_deployment_needs_under_one_name(name: str) -> None:
    documents = read(name)
    deployment = documents["Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]

    assert documents.keys() == KINDS.keys()
    assert {document["metadata"]["name"] for document in documents.values()} == {
        deployment["metadata"]["name"]
    }
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert documents["Service"]["spec"]["selector"] == labels
    assert documents["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert documents["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == labels[
        "app.kubernetes.io/name"
    ]  # fmt: skip


def test_the_two_deployments_differ_in_the_accelerator_alone() -> None:
    first, second = (
        read(name)["Deployment"]["spec"]["template"]["spec"] | {"containers": [], "tolerations": []}
        for name in PLAIN
    )
    containers = [engine_container(name) for name in PLAIN]
    ours = {"image", "env", "resources"}
    renamed = json.loads(json.dumps(second).replace("inference-api-gpu", "inference-api"))

    assert first == renamed
    assert {key: containers[0][key] for key in containers[0].keys() - ours} == {
        key: containers[1][key] for key in containers[1].keys() - ours
    }
    environments = [environment(name) for name in PLAIN]
    assert {key for key in environments[0] if environments[0][key] != environments[1].get(key)} == {
        "ENGINE_DEVICE"
    }
    assert [each["image"].rpartition(":")[2] for each in containers] == ["cpu", "cuda"]
    assert containers[1]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in containers[0]["resources"]["limits"]


@pytest.mark.parametrize("name", ALL)
def test_what_is_set_are_settings_with_values_that_are_allowed(name: str) -> None:
    others = {"PROTOCOL"}  # KServe reads it

    given = {key for key in environment(name) if not key.startswith("RAY_")}
    assert given <= known_variables() | others
    assert settings_of(name).load_at_start == ("yolov8n",)
    assert settings_of(name).device == ("cuda" if name == "gpu.yaml" else "cpu")


@pytest.mark.parametrize("name", [*PLAIN, "inferenceservice.yaml"])
def test_the_port_is_the_images(name: str) -> None:
    (port,) = engine_container(name)["ports"]

    assert port["containerPort"] == container_port()
    assert "command" not in engine_container(name) and "args" not in engine_container(name)


@pytest.mark.parametrize("name", PLAIN)
def test_the_service_and_the_scrape_reach_the_port(name: str) -> None:
    documents = read(name)
    (port,) = documents["Service"]["spec"]["ports"]
    notes = documents["Deployment"]["spec"]["template"]["metadata"]["annotations"]

    assert port["targetPort"] == engine_container(name)["ports"][0]["name"]
    assert int(notes["prometheus.io/port"]) == container_port()
    assert settings_of(name).public_metrics, "a scrape brings no key"


@pytest.mark.parametrize("name", [*PLAIN, "inferenceservice.yaml"])
def test_the_probes_ask_routes_that_are_served(name: str) -> None:
    container = engine_container(name)
    table = Routes(Engine(Settings())).table()
    paths = {}
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        ask = container[kind]["httpGet"]
        assert ask["port"] in (container_port(), container["ports"][0]["name"])
        scope = {"type": "http", "method": "GET", "path": ask["path"], "headers": []}
        assert any(route.matches(scope)[0] is Match.FULL for route in table)
        paths[kind] = ask["path"]

    assert paths == {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}


@pytest.mark.parametrize("name", [*PLAIN, "inferenceservice.yaml"])
def test_a_model_has_time_to_come_before_its_pod_is_given_up(name: str) -> None:
    probe = engine_container(name)["startupProbe"]
    patience = probe["periodSeconds"] * probe["failureThreshold"]

    assert patience >= 3 * default("start_timeout")
    if name in PLAIN:
        assert read(name)["Deployment"]["spec"]["progressDeadlineSeconds"] > patience


@pytest.mark.parametrize("name", [*PLAIN, "inferenceservice.yaml"])
def test_a_front_that_is_busy_is_not_taken_for_dead(name: str) -> None:
    probe = engine_container(name)["livenessProbe"]

    assert probe["periodSeconds"] * probe["failureThreshold"] >= 60


@pytest.mark.parametrize("name", ALL)
def test_a_pod_is_given_the_longest_that_a_stop_takes(name: str) -> None:
    """Lame duck, who was just let in, requests in flight, then what is queued, then workers."""
    drain = default("drain_timeout")
    worst = default("lame_duck") + LAST_REQUESTS_TIMEOUT + drain + drain + Limits().stop_timeout

    assert engine_pod(name)["terminationGracePeriodSeconds"] > worst


def test_every_pod_is_confined_as_the_image_is() -> None:
    made = next(text for kind, text in final_stage(read_dockerfile()) if kind == "RUN" and "useradd" in text)
    uid = int(re.findall(r"useradd --uid (\d+)", made)[0])
    for pod in every_pod():
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": uid,
            "runAsGroup": uid,
            "fsGroup": uid,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
        assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}


def test_no_pod_gets_variables_that_the_engine_would_take_for_settings() -> None:
    assert [pod for pod in every_pod() if pod["enableServiceLinks"] is not False] == []


def test_memory_and_whole_cores_are_the_pods_own_and_nothing_else_is_shared_memory() -> None:
    for pod in every_pod():
        for container in pod["containers"]:
            requests, limits = container["resources"]["requests"], container["resources"]["limits"]
            assert requests == limits
            assert limits["cpu"].isdigit()
        assert not any(mount["mountPath"] == "/dev/shm" for mount in container["volumeMounts"])
        assert not any(volume.get("emptyDir", {}).get("medium") for volume in pod["volumes"])


@pytest.mark.parametrize("name", ALL)
def test_engines_are_spread_over_nodes_and_share_them_where_there_are_too_few(name: str) -> None:
    rules = engine_pod(name)["affinity"]["podAntiAffinity"]
    (preferred,) = rules["preferredDuringSchedulingIgnoredDuringExecution"]
    rule = preferred["podAffinityTerm"]

    assert "requiredDuringSchedulingIgnoredDuringExecution" not in rules
    assert rule["topologyKey"] == "kubernetes.io/hostname"
    assert rule["labelSelector"]["matchLabels"]


@pytest.mark.parametrize("name", ALL)
def test_what_is_written_lies_in_volumes_where_the_image_writes(name: str) -> None:
    mounts = {mount["name"]: mount["mountPath"] for mount in engine_container(name)["volumeMounts"]}
    volumes = {volume["name"] for volume in engine_pod(name)["volumes"]}

    assert mounts.keys() == volumes
    assert mounts["models"] == one(final_stage(read_dockerfile()), "VOLUME")
    assert mounts["tmp"] == "/tmp"


@pytest.mark.parametrize("name", [*PLAIN, "rayservice.yaml"])
def test_the_keys_are_a_secret_at_the_place_that_the_settings_name(name: str) -> None:
    keys_file = settings_of(name).keys_file
    (volume,) = [each for each in engine_pod(name)["volumes"] if each["name"] == "keys"]
    (mount,) = [each for each in engine_container(name)["volumeMounts"] if each["name"] == "keys"]

    assert keys_file is not None and keys_file.parent == Path(mount["mountPath"])
    assert f"--from-file={keys_file.name}" in (FOLDER / name).read_text()
    assert volume["secret"]["secretName"] == "inference-keys" and mount["readOnly"] is True


@pytest.mark.parametrize("name", PLAIN)
def test_a_rollout_and_an_eviction_leave_engines_that_serve(name: str) -> None:
    documents = read(name)
    budget = documents["PodDisruptionBudget"]["spec"]

    assert documents["Deployment"]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert budget["maxUnavailable"] < documents["HorizontalPodAutoscaler"]["spec"]["minReplicas"]
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow", "else engines that never served hold a node"


@pytest.mark.parametrize("name", PLAIN)
def test_a_file_that_is_applied_again_does_not_undo_the_autoscaler(name: str) -> None:
    assert "replicas" not in read(name)["Deployment"]["spec"]


def adapter_rules() -> dict[str, Document]:
    """By the metric that each makes."""
    values = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text())
    assert values["prometheus"].keys() == {"url", "port"}, "the chart's own default is no chart's service"
    return {rule["name"]["as"]: rule for rule in values["rules"]["custom"]}


def gpu_targets() -> dict[str, str]:
    metrics = read("gpu.yaml")["HorizontalPodAutoscaler"]["spec"]["metrics"]
    return {each["pods"]["metric"]["name"]: each["pods"]["target"]["averageValue"] for each in metrics}


def test_gpus_are_scaled_by_metrics_that_are_made_of_ours() -> None:
    rules, targets = adapter_rules(), gpu_targets()
    asked = {
        name: set(re.findall(r"(\w+)\{", rule["metricsQuery"] + rule["seriesQuery"]))
        for name, rule in rules.items()
    }
    busy = 2 * default("max_batch_size")  # batches under way on a GPU

    assert rules.keys() == targets.keys()
    assert asked["engine_entries"] == {"engine_queue_length", "engine_entries_running"}
    assert asked["engine_front_cores"] == {"process_cpu_seconds_total"}
    assert set().union(*asked.values()) <= described().keys()
    assert 0.5 * busy < float(targets["engine_entries"]) < busy


def test_gpus_are_scaled_when_their_front_is_full_though_nothing_waits_for_them() -> None:
    target = gpu_targets()["engine_front_cores"]

    assert target.endswith("m") and 500 <= int(target.removesuffix("m")) <= 800  # of one core, its event loop
    assert default("decode") == "process", "else decoding would be counted with it"


def test_one_moment_of_a_full_queue_does_not_ask_for_every_gpu() -> None:
    behavior = read("gpu.yaml")["HorizontalPodAutoscaler"]["spec"]["behavior"]
    (policy,) = behavior["scaleUp"]["policies"]

    assert policy["type"] == "Percent" and policy["value"] <= 100 and policy["periodSeconds"] >= 60
    for rule in adapter_rules().values():
        query = rule["metricsQuery"]
        assert query.count("{<<.LabelMatchers>>}[2m]") == query.count("<<.LabelMatchers>>")


def test_cpus_are_scaled_before_they_are_full() -> None:
    (metric,) = read("cpu.yaml")["HorizontalPodAutoscaler"]["spec"]["metrics"]

    assert metric["resource"]["name"] == "cpu"
    assert 50 <= metric["resource"]["target"]["averageUtilization"] <= 80


def test_kserve_is_told_which_protocol_to_speak() -> None:
    predictor = read("inferenceservice.yaml")["InferenceService"]["spec"]["predictor"]

    assert environment("inferenceservice.yaml")["PROTOCOL"] == "v2"
    assert engine_container("inferenceservice.yaml")["name"] == "kserve-container"
    assert predictor["timeout"] >= default("load_timeout") + default("deadline")


def test_kserve_takes_no_engine_away_before_another_serves() -> None:
    predictor = read("inferenceservice.yaml")["InferenceService"]["spec"]["predictor"]

    assert predictor["deploymentStrategy"] == read("cpu.yaml")["Deployment"]["spec"]["strategy"] | {
        "type": "RollingUpdate"
    }


def ray_environments() -> list[dict[str, str]]:
    """Of the head and of the workers, without the engine's own."""
    head = read("rayservice.yaml")["RayService"]["spec"]["rayClusterConfig"]["headGroupSpec"]
    (container,) = head["template"]["spec"]["containers"]
    of_head = {entry["name"]: entry["value"] for entry in container["env"]}
    of_worker = environment("rayservice.yaml")
    return [of_head, {name: value for name, value in of_worker.items() if name.startswith("RAY_")}]


def ray_application() -> Document:
    spec = read("rayservice.yaml")["RayService"]["spec"]
    (application,) = yaml.safe_load(spec["serveConfigV2"])["applications"]
    return dict(application)


def test_ray_serves_the_app_of_this_project_on_every_path_and_nothing_beside_its_controller() -> None:
    spec = read("rayservice.yaml")["RayService"]["spec"]
    application = ray_application()

    assert (application["name"], application["route_prefix"]) == ("engine", "/")
    assert application["import_path"] == "server.ray_app:build"
    assert spec["rayClusterConfig"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_a_replica_of_ray_is_a_whole_worker_pod_and_no_more_are_asked_for_than_may_be() -> None:
    (group,) = read("rayservice.yaml")["RayService"]["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    arguments = ray_application()["args"]

    assert arguments == {
        "num_cpus": int(engine_container("rayservice.yaml")["resources"]["limits"]["cpu"]),
        "min_replicas": group["minReplicas"],
        "max_replicas": group["maxReplicas"],
    }


def test_ray_has_time_to_start_another_engine_before_it_stops_one_and_the_pod_is_killed_after_both() -> None:
    """The node waits for its replicas; the rest is for its processes to end."""
    start = 120
    (drain,) = {environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] for environment in ray_environments()}
    head = read("rayservice.yaml")["RayService"]["spec"]["rayClusterConfig"]["headGroupSpec"]
    (grace,) = {
        pod["terminationGracePeriodSeconds"]
        for pod in (engine_pod("rayservice.yaml"), head["template"]["spec"])
    }

    assert default("deadline") + default("drain_timeout") + 10 + start < int(drain) <= grace - 10


def test_rays_proxy_waits_for_an_answer_longer_than_any_takes() -> None:
    (timeout,) = {environment["RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S"] for environment in ray_environments()}

    assert int(timeout) > default("load_timeout") + default("deadline")


def test_of_rays_engines_one_stays_where_nodes_are_emptied() -> None:
    documents = read("rayservice.yaml")
    (group,) = documents["RayService"]["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    budget = documents["PodDisruptionBudget"]["spec"]

    assert budget["selector"]["matchLabels"] == {"ray.io/group": group["groupName"]}
    assert 0 < budget["minAvailable"] < group["minReplicas"]
    assert "maxUnavailable" not in budget, "not for pods of a controller that has no scale"


def test_ray_is_set_alike_on_all_nodes_and_lets_nobody_in_without_its_token() -> None:
    of_head, of_worker = ray_environments()

    assert of_head == of_worker
    assert of_head["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    cluster = read("rayservice.yaml")["RayService"]["spec"]["rayClusterConfig"]
    assert cluster["authOptions"] == {"mode": "token"}


def test_ray_in_the_manifest_is_the_ray_that_the_app_is_tested_with() -> None:
    try:
        installed = importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("ray, an extra, is not installed")
    spec = read("rayservice.yaml")["RayService"]["spec"]

    assert spec["rayClusterConfig"]["rayVersion"] == installed
