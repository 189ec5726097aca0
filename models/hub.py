"""A model's folder from the Hugging Face hub: configuration, vocabulary, safetensors; nothing that is code.

Runs in a worker or on the command line; huggingface_hub is imported inside functions, torch not at all.
"""

from __future__ import annotations

import importlib
import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.answers import Progress

FILES = ("*.safetensors", "*.json", "*.txt")
REQUIRED = (
    ("config.json",),
    ("preprocessor_config.json", "processor_config.json"),  # newer versions of the library write the second
    ("tokenizer.json", "vocab.txt"),
)
DEFAULT_REVISION = "main"


class HubError(Exception):
    """The repository is neither in the cache nor could it be fetched; the message says why."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository on the hub. `cache_dir` and `endpoint` None mean the library's usual ones; seconds."""

    repo_id: str
    revision: str | None = None
    cache_dir: Path | None = None
    endpoint: str | None = None
    connect_timeout: float = 10.0

    def arguments(self) -> dict[str, Any]:
        return {
            "repo_id": self.repo_id,
            "revision": self.revision or DEFAULT_REVISION,
            "cache_dir": self.cache_dir,
            "endpoint": self.endpoint,
            "etag_timeout": self.connect_timeout,
            "allow_patterns": list(FILES),
        }


def cached(repository: Repository) -> Path | None:
    """The repository's folder if all of it is in the cache. Never uses the network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(**repository.arguments(), local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    return folder if is_complete(folder) else None


def fetch(repository: Repository, progress: Progress) -> Path:
    """Download what is missing; return the folder. Raises HubError. The library resumes, checks and locks."""
    from huggingface_hub import errors, snapshot_download

    # The library lets its HTTP client's exceptions through; which client that is depends on its version.
    transport: Any = getattr(errors, "HTTPError", OSError)
    failures = (OSError, transport, errors.XetDownloadError, errors.EntryNotFoundError)
    try:
        folder = Path(snapshot_download(**repository.arguments(), tqdm_class=_bar(progress)))
    except failures as error:
        raise HubError(f"{type(error).__name__}: {error}") from error
    if not is_complete(folder):
        raise HubError(f"{repository.repo_id} lacks {', '.join(missing(folder))}")
    return folder


def is_complete(folder: Path) -> bool:
    """Whether `folder` holds everything a model needs to load."""
    return not missing(folder)


def missing(folder: Path) -> list[str]:
    """What `folder` lacks, by name."""
    lacks = [names[0] for names in REQUIRED if not any((folder / name).is_file() for name in names)]
    return lacks + [name for name in _safetensors_names(folder) if not (folder / name).is_file()]


def safetensors(folder: Path) -> list[Path]:
    """The weights files of `folder`, in order."""
    return [folder / name for name in _safetensors_names(folder)]


def known_sha256(path: Path) -> str | None:
    """The sha256 of a file in the hub's cache, which names large files by it and checks it on arrival."""
    target = path.resolve()
    is_named_by_hash = target.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", target.name)
    return target.name if is_named_by_hash else None


def _safetensors_names(folder: Path) -> Iterable[str]:
    """One file, or the several that an index beside them names."""
    listing = folder / "model.safetensors.index.json"
    if not listing.is_file():
        return ["model.safetensors"]
    return sorted(set(json.loads(listing.read_text("utf-8"))["weight_map"].values()))


def _bar(progress: Progress) -> type[Any]:
    """A progress bar class that draws nothing and reports bytes."""
    tqdm: Any = importlib.import_module("tqdm").tqdm

    class Bar(tqdm):  # type: ignore[misc]
        monitor_interval = 0  # no watching thread

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "file": io.StringIO()})

        def display(self, msg: str | None = None, pos: int | None = None) -> bool:
            # Of the three bars only this one counts bytes on disk; see huggingface_hub._snapshot_download.
            if self.unit == "B" and self.desc.startswith("Reconstruct"):
                total = int(self.total or 0) or None
                progress({"stage": "download", "done_bytes": int(self.n), "total_bytes": total})
            return True

    return Bar
