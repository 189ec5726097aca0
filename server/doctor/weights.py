"""The weights of the models that load at start or are named in the settings: here, whole, the right ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.errors import ModelError
from models.stored import files, place, stored_bytes
from models.weights import resolve
from server.doctor.finding import Finding, ok, problem, warning
from server.doctor.folders import WRITABLE_BY_OTHERS
from server.doctor.sizes import readable
from server.launch import factory_config
from server.settings import Settings
from server.table import Known


@dataclass(frozen=True, slots=True)
class Stored:
    """`size` in bytes, None if the weights are not (wholly) here; `fault` says what is wrong with what is here.

    `open_to_all`: files, or their folder, that every user of the machine may write.
    """

    path: Path | None
    size: int | None
    fault: str = ""
    is_compared: bool = False
    open_to_all: Sequence[Path] = ()


def read_stored(settings: Settings, known: Known) -> Stored:
    """Look at the files, without the network; those with a known sha256 are read through."""
    config = {**factory_config(settings, known.entry), "offline": True}
    path, size = place(config), stored_bytes(config)
    if path is None or size is None:
        return Stored(path, None)
    if known.entry.sha256 or (path.is_dir() and known.entry.source == "file"):
        try:
            resolve(config)
        except ModelError as error:
            return Stored(path, size, " ".join(str(error).split()))
    suspects = [path, *files(path)] if path.is_dir() else [path.parent, path]
    open_to_all = [each for each in suspects if _is_open_to_all(each)]
    return Stored(path, size, is_compared=bool(known.entry.sha256), open_to_all=open_to_all)


def _is_open_to_all(path: Path) -> bool:
    mode = path.stat().st_mode
    is_sticky_folder = path.is_dir() and bool(mode & 0o1000)  # like /tmp: nobody replaces another's file
    return bool(mode & WRITABLE_BY_OTHERS) and not is_sticky_folder


def check_stored(known: Known, stored: Stored, offline: bool) -> list[Finding]:
    """One model."""
    name, source = known.entry.model_id, known.entry.source
    if stored.fault:
        return [
            problem(
                "weights", f"{name}: {stored.fault}", f"replace the file, or correct [models.{name}] sha256"
            )
        ]
    if stored.size is None:
        return [_missing(known, stored, offline)]
    text = f"{name}: {readable(stored.size)} at {stored.path}"
    findings = [
        ok("weights", text + (", sha256 as given" if stored.is_compared and source == "file" else ""))
    ]
    if stored.open_to_all:
        paths = " ".join(map(str, stored.open_to_all))
        text = f"{name}: every user of this machine may replace the weights ({paths})"
        findings.append(warning("weights_open", text, f"`chmod o-w {paths}`"))
    return findings


def _missing(known: Known, stored: Stored, offline: bool) -> Finding:
    name, when = known.entry.model_id, "at start" if known.loads_at_start else "when first asked for"
    if known.entry.source in ("package", "file"):
        text = f"{name}: {stored.path} is not there, or cannot be read"
        return problem(
            "weights", text, f"put the file there and make it readable, or correct [models.{name}] weights"
        )
    fetch = f"`inference-engine pull {name}`"
    if offline:
        text = f"{name}: its weights are not here and offline = true forbids to download them"
        return problem(
            "weights", text, f"{fetch} where there is a network and copy the folder, or ENGINE_OFFLINE=false"
        )
    text = f"{name}: its weights are not here and will be downloaded {when}"
    return (
        warning("weights", text, f"{fetch} brings them now") if known.loads_at_start else ok("weights", text)
    )


def concerned(models: Iterable[Known]) -> list[Known]:
    """Those loaded at start and those that the settings name."""
    return [known for known in models if known.loads_at_start or known.is_listed]
