"""Where records go: each in one write, so that whatever kills this process leaves at most the last one half."""

from __future__ import annotations

import csv
import errno
import fcntl
import os
import stat
import sys
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Self

from server.predict.record import FORMATS, Fields, Format

_APPENDING = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


class OutputError(Exception):
    """The output cannot be used as asked."""


class Output:
    """`path` None is standard output. `done` are the sources whose answers a resumed file holds already.

    Raises OutputError.
    """

    def __init__(self, path: Path | None, output_format: str, model: str, *, resumes: bool) -> None:
        self._format: Format = FORMATS[output_format]
        self._head = self._format.head  # written with the first record: a run that never began leaves none
        self.done: Collection[str] = frozenset()
        if path is None:
            if sys.stdout is None:
                raise OutputError("standard output is closed")
            self._descriptor = os.dup(sys.stdout.fileno())
            return
        try:
            self._descriptor = os.open(path, _APPENDING, 0o666)
            try:
                self._prepare(path.resolve(), model, resumes)
            except BaseException:
                os.close(self._descriptor)
                raise
        except OSError as error:
            raise OutputError(f"{path}: {error.strerror}") from None

    def _prepare(self, path: Path, model: str, resumes: bool) -> None:
        """Of the file that has been opened."""
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            if resumes:
                raise OutputError(f"{path} is no file that can be gone on with")
            return
        _lock(self._descriptor, path)
        if not os.fstat(self._descriptor).st_size:
            return
        if not resumes:
            raise OutputError(f"{path} exists: go on with it by --resume, or remove it")
        self._resume(path, model)

    def _resume(self, path: Path, model: str) -> None:
        """Leave in the file what is whole and no error. It is put in place of the old one at once."""
        done: set[str] = set()
        new = path.with_name(f"{path.name}.resumed")
        try:
            with path.open("rb") as file, new.open("wb") as kept:
                os.fchmod(kept.fileno(), stat.S_IMODE(os.fstat(file.fileno()).st_mode))
                kept.write(self._head)
                for written in self._format.read(file):
                    if written.model_id not in (None, model):
                        raise OutputError(f"{path} holds answers of {written.model_id}, not of {model}")
                    if written.is_success:
                        done.add(written.source)
                        kept.write(written.raw)
                kept.flush()
                os.fsync(kept.fileno())
            appending = os.open(new, _APPENDING)
            _lock(appending, new)
            new.replace(path)
            os.dup2(appending, self._descriptor, inheritable=False)  # the old file's lock goes with it, now
            os.close(appending)
        except (ValueError, csv.Error) as error:
            raise OutputError(f"{path} is not the output of such a run: {error}") from None
        finally:
            new.unlink(missing_ok=True)
        self._head = b""
        self.done = done

    def write(self, fields: Fields) -> None:
        """Append one record. Raises OSError. May wait for who reads a pipe."""
        view = memoryview(self._head + self._format.encode(fields))
        self._head = b""
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


def _lock(descriptor: int, path: Path) -> None:
    """For this run alone until the descriptor is closed. Raises OutputError where another run writes there: what it
    wrote to a file that has been replaced would be lost."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_free = os.path.samestat(os.fstat(descriptor), path.stat())
    except BlockingIOError:
        is_free = False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):  # a file system without locks
            raise
        return
    if not is_free:
        raise OutputError(f"another run writes to {path}")
