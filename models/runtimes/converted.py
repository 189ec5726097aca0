"""Converted networks on the disk, so that each is converted once per machine. No torch, no openvino.

    FOLDER/KEY/manifest.json      what the network is, and the sha256 of each file beside it; or why there is none
    FOLDER/KEY/network.xml, .bin  the network in OpenVINO's format
    FOLDER/KEY/choice-CPU.json    what was chosen for one kind of processor, and why
    FOLDER/KEY.lock               held while KEY is made, so that two workers make it once

KEY is the hash of everything that decides what the files hold. A folder gets its name when it is whole; one whose files
are not what its manifest says is taken for absent and replaced.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import filelock

from models.answers import Progress
from models.traits import Traits

FORMAT = 1
"""To be raised whenever conversion or manifest change."""
MANIFEST = "manifest.json"
NETWORK = "network.xml"
CONSTANTS = "network.bin"
_PACKAGES = (("openvino",), ("torch",), ("ultralytics", "ultralytics-opencv-headless"))
"""What a conversion depends on; the last goes by two names."""
_LOCK_INTERVAL = 0.25


@dataclass(frozen=True, slots=True)
class Entry:
    """What one folder holds. `refusal` says why there is no network, and is empty where there is one."""

    folder: Path
    traits: Any
    refusal: str = ""

    @property
    def network(self) -> Path:
        """The file that OpenVINO reads; its constants lie beside it."""
        return self.folder / NETWORK


def key(facts: Mapping[str, Any]) -> str:
    """The name of the entry for `facts` (JSON types: weights and what changes the graph) with today's libraries."""
    whole = {"format": FORMAT, "versions": versions(), **facts}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:32]


def versions() -> dict[str, str]:
    """Of the libraries that convert, without importing them."""
    return {names[0]: _version(names) for names in _PACKAGES}


def _version(names: tuple[str, ...]) -> str:
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""


class Converted:
    """The folder of all entries. Nothing here raises because a disk is full or not ours to write to, except `add`."""

    def __init__(self, folder: Path, read_traits: Callable[[Any], Any] = Traits.from_json) -> None:
        """`read_traits` is the inverse of the `to_json` of what `add` is given."""
        self._folder = folder
        self._read_traits = read_traits

    def find(self, name: str) -> Entry | None:
        """The entry of this name, whole and unchanged, else None."""
        folder = self._folder / name
        try:
            manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
            if any(_sha256(folder / file) != expected for file, expected in manifest["files"].items()):
                return None
            return Entry(folder, self._read_traits(manifest["traits"]), manifest["refusal"])
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def add(self, name: str, traits: Any, write: Callable[[Path], None] | None, refusal: str = "") -> Entry:
        """A new entry, in the place of what may lie there; `write` puts its files into a folder.

        Raises OSError, and whatever `write` raises; then nothing has changed.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._clear(name)
        partial = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=self._folder))
        try:
            partial.chmod(0o755)
            if write is not None:
                write(partial)
            files = {file.name: _sha256(file) for file in sorted(partial.iterdir())}
            manifest = {
                "traits": traits.to_json(),
                "refusal": refusal,
                "files": files,
                "versions": versions(),
            }
            (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
            for file in partial.iterdir():
                _sync(file)
            final = self._folder / name
            if final.exists():  # damaged, or made by somebody who held no lock
                final.rename(partial / "before")
            partial.rename(final)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        shutil.rmtree(final / "before", ignore_errors=True)
        return Entry(final, traits, refusal)

    def _clear(self, name: str) -> None:
        """Remove what workers left that were killed while they wrote: else a kill after another fills the disk. Who
        holds the lock, as one should, takes away nobody's work."""
        for left in self._folder.glob(f"{name}.*/"):
            shutil.rmtree(left, ignore_errors=True)

    @contextmanager
    def locked(self, name: str, progress: Progress) -> Iterator[None]:
        """Hold the entry's lock; without one where none can be made, for then nothing can be written either."""
        lock = self._lock(name)
        while lock is not None:
            try:
                lock.acquire(timeout=_LOCK_INTERVAL)
                break
            except filelock.Timeout:
                progress({"stage": "convert"})
            except OSError:
                lock = None
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    def _lock(self, name: str) -> filelock.FileLock | None:
        path = self._folder / f"{name}.lock"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path.touch()
        except OSError:
            return None
        return filelock.FileLock(path)


def read_choice(entry: Entry, machine: str) -> Any:
    """What was written for this kind of machine, None if nothing was, or nothing that can be read."""
    try:
        return json.loads(_choice(entry, machine).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def write_choice(entry: Entry, machine: str, choice: Any) -> None:
    """Keep `choice` (JSON types). Raises OSError."""
    path = _choice(entry, machine)
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(choice, indent=1) + "\n", "utf-8")
    partial.replace(path)


def _choice(entry: Entry, machine: str) -> Path:
    return entry.folder / f"choice-{hashlib.sha256(machine.encode()).hexdigest()[:16]}.json"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
