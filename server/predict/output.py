"""Where records go: each in one write, so that whatever kills this process leaves at most the last one half."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Self

from server.predict.record import FORMATS, Fields, Format


class OutputError(Exception):
    """The output cannot be used as asked."""


class Output:
    """`path` None is standard output. `done` are the sources whose answers a resumed file holds already.

    Raises OutputError.
    """

    def __init__(self, path: Path | None, output_format: str, model: str, *, resumes: bool) -> None:
        self._format: Format = FORMATS[output_format]
        self.done: Collection[str] = frozenset()
        if path is None:
            self._descriptor = os.dup(sys.stdout.fileno())
            is_new = True
        else:
            try:
                is_new = self._prepare(path, model, resumes)
                self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            except OSError as error:
                raise OutputError(f"{path}: {error.strerror}") from None
        if is_new:
            self._write_all(self._format.head)

    def _prepare(self, path: Path, model: str, resumes: bool) -> bool:
        """Whether the file begins empty."""
        if not path.exists():
            return True
        if not stat.S_ISREG(path.stat().st_mode):
            if resumes:
                raise OutputError(f"{path} is no file that can be gone on with")
            return True
        if not path.stat().st_size:
            return True
        if not resumes:
            raise OutputError(f"{path} exists: go on with it by --resume, or remove it")
        self.done = self._resume(path, model)
        return False

    def _resume(self, path: Path, model: str) -> Collection[str]:
        """Leave in the file what is whole and no error. It is put in place of the old one at once."""
        done: set[str] = set()
        new = path.with_name(f"{path.name}.resumed")
        try:
            with path.open("rb") as file, new.open("wb") as kept:
                kept.write(self._format.head)
                for written in self._format.read(file):
                    if written.model_id not in (None, model):
                        raise OutputError(f"{path} holds answers of {written.model_id}, not of {model}")
                    if written.is_success:
                        done.add(written.source)
                        kept.write(written.raw)
                kept.flush()
                os.fsync(kept.fileno())
            new.replace(path)
        except ValueError as error:
            raise OutputError(f"{path} is not the output of such a run: {error}") from None
        finally:
            new.unlink(missing_ok=True)
        return done

    def write(self, fields: Fields) -> None:
        """Append one record. Raises OSError."""
        self._write_all(self._format.encode(fields))

    def _write_all(self, content: bytes) -> None:
        view = memoryview(content)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            os.fsync(self._descriptor)
        os.close(self._descriptor)
