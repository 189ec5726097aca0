"""A model's folder from the Hugging Face hub: configuration, vocabulary, safetensors; nothing that is code.

Runs in a worker or on the command line; huggingface_hub is imported inside functions, torch not at all.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.answers import Progress
from models.tries import (
    DownloadError,
    InterruptedDownloadError,
    StorageError,
    answered,
    is_about_storage,
    persist,
)

FILES = ("*.safetensors", "*.json", "*.txt")
REQUIRED = (
    ("config.json",),
    ("preprocessor_config.json", "processor_config.json"),  # newer versions of the library write the second
    ("tokenizer.json", "vocab.txt"),
)
DEFAULT_REVISION = "main"


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository on the hub. `cache_dir` and `endpoint` None mean the library's usual ones; seconds."""

    repo_id: str
    revision: str | None = None
    cache_dir: Path | None = None
    endpoint: str | None = None
    connect_timeout: float = 10.0
    read_timeout: float = 30.0

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
    """Download what is missing; return the folder. Raises DownloadError. The library resumes and locks."""
    _limit_waiting(repository)
    counted = CountedProgress(progress)
    folder = persist(lambda: _fetch_once(repository, counted), lambda: counted.done_bytes)
    if lacks := missing(folder):
        raise DownloadError(f"{repository.repo_id} lacks {', '.join(lacks)}")
    return folder


def _fetch_once(repository: Repository, progress: Progress) -> Path:
    from huggingface_hub import errors, snapshot_download

    # The library lets its HTTP client's exceptions through; which client that is depends on its version.
    transport: Any = getattr(errors, "HTTPError", OSError)
    failures = (OSError, transport, errors.XetDownloadError, errors.EntryNotFoundError)
    try:
        folder = Path(snapshot_download(**repository.arguments(), tqdm_class=_bar(progress)))
    except failures as error:
        raise _failure(repository, error) from error
    for path in safetensors(folder):
        if path.is_file():
            _check_arrival(path)
    return folder


def _failure(repository: Repository, error: BaseException) -> DownloadError:
    """What the library's exception comes down to: it wraps the first one, which knows status or errno."""
    from huggingface_hub.errors import HfHubHTTPError

    name = repository.repo_id
    root: BaseException | None = error
    while root is not None:
        if isinstance(root, HfHubHTTPError) and getattr(root, "response", None) is not None:
            return answered(f"the hub's {name}", root.response.status_code, root.response.headers)
        if is_about_storage(root):
            return StorageError(f"cannot write to the hub's cache: {root}")
        if type(root).__name__ in ("RemoteProtocolError", "ReadError"):
            return InterruptedDownloadError(f"the hub's {name}: {type(root).__name__}: {root}")
        root = root.__cause__
    return DownloadError(f"{type(error).__name__}: {error}")


def _limit_waiting(repository: Repository) -> None:
    """Give every request of the library a timeout: it asks for a repository's list of files without one."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import _http

    limits = {
        "connect": repository.connect_timeout,
        "read": repository.read_timeout,
        "write": repository.read_timeout,
        "pool": None,
    }

    def limit(request: Any) -> None:
        request.extensions["timeout"] = limits

    def make_client() -> Any:
        client = _http.default_client_factory()
        client.event_hooks = {
            **client.event_hooks,
            "request": [*client.event_hooks.get("request", []), limit],
        }
        return client

    set_client_factory(make_client)


class CountedProgress:
    """Passes reports on and remembers how many bytes the last one told of."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.done_bytes = 0

    def __call__(self, fields: Mapping[str, Any]) -> None:
        self.done_bytes = int(fields.get("done_bytes") or 0)
        self._progress(fields)


def _check_arrival(path: Path) -> None:
    """Refuse a file whose content is not what the hub named it by; the library compares sizes only."""
    expected = known_sha256(path)
    if expected is None:
        return
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != expected:
        path.resolve().unlink()
        raise InterruptedDownloadError(
            f"{path.name} arrived with sha256 {actual}, the hub names it {expected}"
        )


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
    """The sha256 of a file in the hub's cache, which names large files by it; `fetch` has compared."""
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
