"""The folders that are written to: there or to be made, writable, with room."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from models.catalogue import CATALOGUE
from server.doctor.finding import Finding, Status, ok, problem, warning
from server.doctor.sizes import GIB, readable
from server.launch import cache_folder, converted_folder, worker_environment
from server.settings import DEFAULT_CONFIG, Settings

LITTLE_SPACE = 2 * GIB
"""The largest download is BLIP large, 1.9 GB."""
WRITABLE_BY_OTHERS = 0o002


@dataclass(frozen=True, slots=True)
class Folder:
    """`exists`: it is there already, else the nearest folder above it was looked at. `free` in bytes."""

    path: Path
    exists: bool
    is_writable: bool
    free: int


def read_folder(path: Path) -> Folder:
    """Look, and write a file without a name there or in the nearest folder above. Raises OSError if nothing of the
    path can be seen."""
    path = path.expanduser().absolute()
    nearest = next(each for each in (path, *path.parents) if each.exists())
    free = shutil.disk_usage(nearest).free
    try:
        with tempfile.TemporaryFile(dir=nearest):  # permissions alone say nothing of read-only file systems
            pass
    except OSError:
        return Folder(path, nearest == path, False, free)
    return Folder(path, nearest == path, True, free)


def check_cache(folder: Folder, what: str, variable: str, need: Status) -> Finding:
    """`what` is kept there, `variable` names another place; `need` is how bad it is if nothing can be written."""
    state = "" if folder.exists else ", to be made"
    text = f"{what}: {folder.path}{state}, {readable(folder.free)} free"
    if not folder.is_writable:
        text = f"{what}: {folder.path} cannot be {'written to' if folder.exists else 'made'}"
        remedy = f"`chown {os.getuid()} {folder.path}` or {variable}= a folder that user {os.getuid()} may write to"
        if need == "ok":
            return ok("folder", f"{text}; nothing needs to be written there")
        return problem("folder", text, remedy) if need == "problem" else warning("folder", text, remedy)
    if folder.free < LITTLE_SPACE and need != "ok":
        return warning("space", text, f"make room there, or {variable}= a folder with more")
    return ok("folder", text)


def hub_folder(settings: Settings, environment: Mapping[str, str]) -> Path:
    """Where the hub's library keeps weights, by its own rules where the settings leave it to them."""
    chosen = cache_folder(settings, CATALOGUE["blip-vqa-base"])
    if chosen is not None:
        return chosen
    if environment.get("HF_HUB_CACHE"):
        return Path(environment["HF_HUB_CACHE"])
    home = worker_environment(settings).get("HF_HOME")
    above = Path(environment.get("XDG_CACHE_HOME") or "~/.cache")
    return (Path(home) if home else above / "huggingface") / "hub"


def check_folders(
    settings: Settings, environment: Mapping[str, str], sources_at_start: frozenset[str]
) -> list[Finding]:
    """All of them; `sources_at_start` are those that a model loaded at start must be downloaded from."""
    try:
        temporary = tempfile.gettempdir()
    except FileNotFoundError as error:
        return [problem("temporary", str(error), "mount one: `docker run --tmpfs /tmp`, or TMPDIR= a folder")]
    yolo = cache_folder(settings, CATALOGUE["yolov8n"]) or Path(temporary)
    findings = []
    for path, what, variable, source in (
        (yolo, "YOLO weights", "ULTRALYTICS_CACHE_DIR", "ultralytics"),
        (hub_folder(settings, environment), "BLIP weights", "HUGGINGFACE_HUB_CACHE", "hub"),
    ):
        findings.append(_check(path, what, variable, _need(settings, source in sources_at_start)))
        if path.is_relative_to(temporary) and not settings.offline:
            text = f"{what} are downloaded to {path}, which does not outlive the container or the machine's start"
            findings.append(warning("temporary", text, f"{variable}= a folder on a volume"))
    need: Status = "ok" if settings.runtime == "torch" else "warning"  # each start converts anew, offline too
    converted = converted_folder(settings)
    findings.append(_check(converted, "converted networks", "ENGINE_CONVERTED_DIR", need, is_small=True))
    config = (
        worker_environment(settings).get("YOLO_CONFIG_DIR")
        or environment.get("XDG_CONFIG_HOME")
        or "~/.config"
    )
    findings.append(
        _check(Path(config), "settings of Ultralytics", "YOLO_CONFIG_DIR", "warning", is_small=True)
    )
    return findings + _check_config(settings)


def _need(settings: Settings, is_missing_at_start: bool) -> Status:
    if settings.offline:
        return "ok"
    if is_missing_at_start:
        return "problem"
    return "warning" if settings.on_demand != "off" else "ok"


def _check(path: Path, what: str, variable: str, need: Status, *, is_small: bool = False) -> Finding:
    try:
        folder = read_folder(path)
    except OSError as error:
        return warning(
            "folder", f"{what}: {path}: {error.strerror}", f"{variable}= a folder that can be read"
        )
    if is_small:
        folder = Folder(folder.path, folder.exists, folder.is_writable, max(folder.free, LITTLE_SPACE))
    return check_cache(folder, what, variable, need)


def _check_config(settings: Settings) -> list[Finding]:
    """That it can be read is known by now; whoever can write it decides which weights are loaded."""
    path = settings.config or DEFAULT_CONFIG
    if not path.exists():
        return []
    if path.stat().st_mode & WRITABLE_BY_OTHERS:
        return [warning("config", f"every user of this machine may write {path}", f"`chmod o-w {path}`")]
    return [ok("config", f"settings file {path.absolute()}")]
