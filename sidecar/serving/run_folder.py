"""The folder that the processes of a server share; those of servers that were killed are removed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "sidecar-run-"
_NEW_FOR_S = 60.0  # it may not be locked yet


@contextmanager
def run_folder() -> Iterator[Path]:
    """A new one, which the process that enters removes when it leaves: its children leave by here too."""
    _remove_what_the_killed_left()
    folder, ours = Path(tempfile.mkdtemp(prefix=_PREFIX)), os.getpid()
    _lock(folder)  # as long as one of the server's processes lives, whichever that is
    try:
        yield folder
    finally:
        if os.getpid() == ours:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_what_the_killed_left() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it is in use, or was just removed
            found = folder.lstat()
            if found.st_uid != os.geteuid() or time.time() - found.st_mtime < _NEW_FOR_S:
                continue
            lock = _lock(folder)
            try:
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _lock(folder: Path) -> int:
    """BlockingIOError while another process has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
