"""Which pictures: files, folders, patterns, addresses, standard input; one after another, never all in memory."""

from __future__ import annotations

import glob
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

STDIN = "-"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
"""Of the files in folders that are taken for pictures. A file that is named is always tried."""


class SourceError(Exception):
    """A source without a picture; `code` for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Source:
    """`name` is a path as the system gives it, an address or STDIN; `problem` why it stands for no picture."""

    name: str
    problem: SourceError | None = None

    @property
    def text(self) -> str:
        """The name as UTF-8 can say it: other bytes as ``\\xff``."""
        return os.fsencode(self.name).decode("utf-8", "backslashreplace")

    @property
    def is_address(self) -> bool:
        """Fetched by the engine, not read here."""
        return self.name.lower().startswith(("http://", "https://"))

    def read(self) -> bytes | str:
        """The encoded image, or the address. Raises SourceError."""
        if self.problem is not None:
            raise self.problem
        if self.is_address:
            return self.name
        try:
            if self.name == STDIN:
                return sys.stdin.buffer.read()
            with open(self.name, "rb") as file:  # noqa: PTH123 - a name that is not UTF-8 stays what it is
                return file.read()
        except (OSError, ValueError) as error:  # ValueError: a zero byte in a name
            reason = getattr(error, "strerror", None) or str(error)
            raise SourceError("file_unreadable", f"The file cannot be read: {reason}.") from None


@dataclass(frozen=True)
class Sources:
    """`names` as given on the command line; `listed` a file with one more in each line."""

    names: Sequence[str]
    listed: str | None = None
    is_recursive: bool = False

    @property
    def is_countable(self) -> bool:
        """Whether going through them twice gives the same."""
        return self.listed != STDIN and (self.listed is None or stat.S_ISREG(os.stat(self.listed).st_mode))  # noqa: PTH116

    def __iter__(self) -> Iterator[Source]:
        for name in self.names:
            yield from self._expanded(name)
        if self.listed == STDIN:
            yield from self._lines(sys.stdin.buffer)
        elif self.listed is not None:
            with open(self.listed, "rb") as lines:  # noqa: PTH123
                yield from self._lines(lines)

    def _lines(self, lines: BinaryIO) -> Iterator[Source]:
        for line in lines:
            if name := line.rstrip(b"\r\n"):
                yield from self._expanded(os.fsdecode(name), is_pattern=False)

    def _expanded(self, name: str, is_pattern: bool = True) -> Iterator[Source]:
        if name == STDIN or Source(name).is_address:
            yield Source(name)
        elif os.path.isdir(name):  # noqa: PTH112
            yield from self._folder(name)
        elif is_pattern and glob.has_magic(name) and not os.path.lexists(name):
            found = False
            for match in glob.iglob(name, recursive=True):  # noqa: PTH207
                found = True
                yield from self._expanded(match, is_pattern=False)
            if not found:
                yield Source(name, SourceError("no_images", "No file matches the pattern."))
        else:
            yield Source(name)

    def _folder(self, folder: str) -> Iterator[Source]:
        found = False
        for source in self._images(folder):
            found = True
            yield source
        if not found:
            deeper = "" if self.is_recursive else ", nor is it looked into deeper without --recursive"
            text = f"The folder holds no image ({', '.join(SUFFIXES)}){deeper}."
            yield Source(folder, SourceError("no_images", text))

    def _images(self, folder: str) -> Iterator[Source]:
        """In the folder's own order. Links to folders are not followed, so that none is walked twice or for ever."""
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if self.is_recursive:
                            yield from self._images(entry.path)
                    elif entry.name.lower().endswith(SUFFIXES) and _may_be_image(entry):
                        yield Source(entry.path)
        except OSError as error:
            text = f"The folder cannot be read: {error.strerror}."
            yield Source(folder, SourceError("folder_unreadable", text))


def _may_be_image(entry: os.DirEntry[str]) -> bool:
    """A file, or a link that leads nowhere, which is then said; never a pipe, that would be waited for."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))  # noqa: PTH110
    except OSError:  # a link to itself
        return True
