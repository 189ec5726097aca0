"""Where weights live and how they come: the only place that knows. No torch but to look up an address.

- package: below this package, always there
- ultralytics: `cache_dir`/NAME, fetched from the library's release if absent
- hub: `cache_dir` in Hugging Face's layout, fetched from the hub if absent
- file: a path of the operator's, never fetched

Nobody here reads the environment: the settings put `ULTRALYTICS_CACHE_DIR` or `HUGGINGFACE_HUB_CACHE` into
`cache_dir`. Weights are checked against the sha256 before anything parses them.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models import hub
from models.answers import Progress, no_progress
from models.catalogue import Source
from models.download import Download, fetch, locked, publish
from models.errors import ModelError, WeightsInvalidError, WeightsNotStoredError, WeightsUnavailableError
from models.tries import DownloadError, StorageError

PACKAGE = Path(__file__).parent
ZIP_MAGIC = b"PK\x03\x04"
HASH_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ResolvedWeights:
    """Weights on the local disk: a `.pt` file or a folder, and the sha256 (hexadecimal) of what is in it."""

    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class WeightsSource:
    """The part of a factory's config that says where weights come from. Timeouts are in seconds.

    `cache_dir` is required for `ultralytics`; None means the hub library's own for `hub`. `base_url` replaces
    the library's release address or the hub's endpoint. `offline` forbids the network.
    """

    model_id: str
    source: Source
    weights: str
    sha256: str | None = None
    revision: str | None = None
    cache_dir: Path | None = None
    base_url: str | None = None
    offline: bool = False
    connect_timeout: float = 10.0
    read_timeout: float = 30.0

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> WeightsSource:
        """Read a factory's config; keys that are not about weights are ignored. Raises TypeError."""
        given = {name: config[name] for name in cls.__dataclass_fields__ if config.get(name) is not None}
        if "cache_dir" in given:
            given["cache_dir"] = Path(given["cache_dir"]).expanduser()
        return cls(**given)


def resolve(config: Mapping[str, Any], progress: Progress = no_progress) -> ResolvedWeights:
    """Weights on the local disk, fetched if need be and checked.

    Raises WeightsUnavailableError if they are not here and cannot be fetched now, WeightsNotStoredError if the disk
    does not take them, WeightsInvalidError if they are not what the config asks for.
    """
    source = WeightsSource.from_config(config)
    try:
        if source.source == "hub":
            return _checked_folder(source, _hub_folder(source, progress))
        if source.source == "ultralytics":
            return _checked_file(source, _asset(source, progress))
        path = PACKAGE / source.weights if source.source == "package" else Path(source.weights).expanduser()
        return _checked_folder(source, path) if path.is_dir() else _checked_file(source, path)
    except OSError as error:
        raise _unavailable(source, f"{type(error).__name__}: {error}") from error


def sha256_of(path: Path) -> str:
    """The file's sha256 in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def release_address() -> str:
    """The address below which the installed Ultralytics library finds its weights. Imports that library."""
    from ultralytics.utils.downloads import attempt_download_asset

    defaults = inspect.signature(attempt_download_asset).parameters
    repository, release = defaults["repo"].default, defaults["release"].default
    return f"https://github.com/{repository}/releases/download/{release}"


def _asset(source: WeightsSource, progress: Progress) -> Path:
    if source.cache_dir is None or Path(source.weights).name != source.weights:
        raise ValueError(f"{source.model_id}: an asset needs a plain file name and a cache folder")
    target = source.cache_dir / source.weights
    if target.exists():
        return target
    if source.offline:
        raise _unavailable(source, f"{target} does not exist and downloads are off")
    url = f"{(source.base_url or release_address()).rstrip('/')}/{source.weights}"
    download = Download(url, target, source.connect_timeout, source.read_timeout)
    try:
        source.cache_dir.mkdir(parents=True, exist_ok=True)
        with locked(download, progress):
            if not target.exists():  # another process may have brought it meanwhile
                fetch(download, progress)
                _check_arrival(source, download)
                publish(download)
    except DownloadError as error:
        raise _not_fetched(source, error) from error
    except OSError as error:
        raise _not_fetched(source, StorageError(f"cannot write to {source.cache_dir}: {error}")) from error
    return target


def _check_arrival(source: WeightsSource, download: Download) -> None:
    """Refuse, before it gets its name, a body that is not the file: later nobody would fetch it again."""
    with download.partial.open("rb") as file:
        is_checkpoint = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    if not is_checkpoint:
        download.discard()
        raise _unavailable(source, f"{download.url} answered no checkpoint, perhaps a login page")
    actual = sha256_of(download.partial) if source.sha256 else ""
    if source.sha256 and actual != source.sha256.lower():
        download.discard()
        raise WeightsInvalidError(f"{download.url} has sha256 {actual}, expected {source.sha256}: not kept")


def _hub_folder(source: WeightsSource, progress: Progress) -> Path:
    repository = hub.Repository(
        source.weights,
        source.revision,
        source.cache_dir,
        source.base_url,
        source.connect_timeout,
        source.read_timeout,
    )
    folder = hub.cached(repository)
    if folder is not None:
        return folder
    if source.offline:
        raise _unavailable(source, f"{source.weights} is not (wholly) in the cache and downloads are off")
    try:
        return hub.fetch(repository, progress)
    except DownloadError as error:
        raise _not_fetched(source, error) from error


def _checked_file(source: WeightsSource, path: Path) -> ResolvedWeights:
    if path.is_dir():
        raise WeightsInvalidError(f"weights of {source.model_id!r}: {path} is a folder, a file is needed")
    return _checked(source, ResolvedWeights(path, sha256_of(path)))


def _checked_folder(source: WeightsSource, folder: Path) -> ResolvedWeights:
    try:
        lacks = hub.missing(folder)
    except (ValueError, KeyError) as error:
        raise WeightsInvalidError(f"weights of {source.model_id!r}: damaged index in {folder}") from error
    if lacks:
        raise WeightsInvalidError(f"weights of {source.model_id!r}: {folder} lacks {', '.join(lacks)}")
    files = hub.safetensors(folder)
    # Only who pinned a hash pays for hashing a gigabyte at each start: the cache names large files by theirs.
    hashes = [(None if source.sha256 else hub.known_sha256(path)) or sha256_of(path) for path in files]
    joined = hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
    return _checked(source, ResolvedWeights(folder, joined))


def _checked(source: WeightsSource, resolved: ResolvedWeights) -> ResolvedWeights:
    if source.sha256 and resolved.sha256 != source.sha256.lower():
        raise WeightsInvalidError(
            f"weights of {source.model_id!r}: {resolved.path} has sha256 {resolved.sha256}, expected "
            f"{source.sha256}. Replace the file, or correct the hash if the file is right."
        )
    return resolved


def _not_fetched(source: WeightsSource, error: DownloadError) -> ModelError:
    if isinstance(error, StorageError):
        return WeightsNotStoredError(
            f"weights of {source.model_id!r} could not be stored: {error}. Make room, make the folder writable, or "
            f"point {_variable(source)} (now {source.cache_dir or 'the library default'}) at another one."
        )
    return _unavailable(source, str(error))


def _unavailable(source: WeightsSource, why: str) -> WeightsUnavailableError:
    if source.source in ("package", "file"):
        return WeightsUnavailableError(
            f"weights of {source.model_id!r} cannot be read: {why}. Put the file there and make it readable."
        )
    return WeightsUnavailableError(
        f"weights of {source.model_id!r} are not here and could not be fetched: {why}. Check network and "
        f"proxy, or run `inference-engine pull {source.model_id}` where there is one and point {_variable(source)} "
        f"(now {source.cache_dir or 'the library default'}) at that folder."
    )


def _variable(source: WeightsSource) -> str:
    return "ULTRALYTICS_CACHE_DIR" if source.source == "ultralytics" else "HUGGINGFACE_HUB_CACHE"
