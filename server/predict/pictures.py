"""The folder of annotated pictures."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from server.predict.options import UsageError
from server.predict.sources import Source

MAX_STEM = 80


class PictureFolder:
    """Made where it is not there. Raises UsageError where it cannot be."""

    def __init__(self, path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--save-pictures {path}: {error.strerror}") from None
        self._path = path

    def save(self, source: Source, picture: bytes) -> str:
        """The file's path. Its name ends with a digest of the source's, so that files of one name in several folders
        have one each and a run that goes on writes over what it had begun. Raises OSError."""
        stem = re.sub(r"[^A-Za-z0-9._-]", "_", Path(source.text).stem)[:MAX_STEM] or "picture"
        digest = hashlib.blake2b(source.name.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
        path = self._path / f"{stem}-{digest}.jpg"
        part = path.with_suffix(".part")
        part.write_bytes(picture)
        part.replace(path)
        return str(path)
