"""The decision log in a folder: a folder for each day, and in it one file for each worker."""

from __future__ import annotations

import fcntl
import os
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MODE, _FOLDER_MODE = 0o640, 0o750
SUFFIX = ".jsonl"


class LogFolder:
    """A Sink. The file that is being written is locked, so that nobody takes it for closed.

    One writer has one file a day, so lines of any length stay whole.
    """

    longest: int | None = None

    def __init__(self, folder: Path, *, writer: str) -> None:
        self.ends_at = inf
        self._folder = folder
        self._name = f"{writer}{SUFFIX}"
        self._day = ""
        self._file: int | None = None

    def write(self, block: bytes, day: str) -> int:
        """How many bytes of *block* went into the file of *day*, ``2026-11-28``: all, unless it failed."""
        try:
            if self._file is None or day != self._day:
                self._open(day)
            return os.write(self._file or 0, block)
        except OSError:
            return 0

    write_last = write

    def sync(self) -> None:
        """OSError if the disk has not got all that was written."""
        if self._file is not None:
            os.fdatasync(self._file)

    def take_back(self, size: int) -> bool:
        """Whether the last *size* bytes are gone again, as if they had not been written."""
        if not size or self._file is None:
            return not size
        try:
            os.ftruncate(self._file, os.fstat(self._file).st_size - size)
        except OSError:
            return False
        return True

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self, day: str) -> None:
        folder = self._folder / day
        folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        file = os.open(folder / self._name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)
        try:
            os.fchmod(file, MODE)  # whatever the umask
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            _sync_folder(folder)
            _sync_folder(self._folder)
            if self._file is not None:
                os.fdatasync(self._file)
        except OSError:
            os.close(file)
            raise
        self.close()
        self._file, self._day = file, day


def _sync_folder(folder: Path) -> None:
    """Else a file whose lines are on the disk could be without a name there."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
