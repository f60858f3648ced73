"""Upkeep of a folder of decision logs: closed files are compressed, old days are deleted."""

from __future__ import annotations

import fcntl
import gzip
import os
import re
import shutil
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sidecar.telemetry.log_folder import MODE, SUFFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_GZ = f"{SUFFIX}.gz"
_BEING_MADE = ".part"


def compress_closed(folder: Path) -> int:
    """Compress the files of former days that nobody writes to, and those of writers that have ended.

    How many it was. Who is killed in between leaves the file as it was.
    """
    done = 0
    for _, day in _days(folder):
        for path in sorted(day.glob(f"*{SUFFIX}")):
            with path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:  # it is being written
                    continue
                _compress(path)
                done += 1
    return done


def delete_old(folder: Path, *, keep_days: int, removed: Callable[[str], object]) -> list[str]:
    """Delete the days that are over for more than *keep_days*; their names.

    *removed* is called first, with each writer that has no file left then.
    """
    first_kept = (datetime.now(UTC).date() - timedelta(days=keep_days)).isoformat()
    days = list(_days(folder))
    kept = {writer for name, day in days if name >= first_kept for writer in _writers_in(day)}
    old = [(name, day) for name, day in days if name < first_kept]
    for writer in sorted({writer for _, day in old for writer in _writers_in(day)} - kept):
        removed(writer)
    for _, day in old:
        shutil.rmtree(day)
    return [name for name, _ in old]


def _days(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.iterdir()):
        if _DAY.fullmatch(path.name) and path.is_dir():
            yield path.name, path


def _writers_in(day: Path) -> set[str]:
    return {
        path.name.removesuffix(suffix)
        for path in day.iterdir()
        for suffix in (SUFFIX, _GZ)
        if path.name.endswith(suffix)
    }


def _compress(path: Path) -> None:
    made, whole = path.with_name(f"{path.name}{_BEING_MADE}"), path.with_name(f"{path.name}.gz")
    with suppress(FileNotFoundError):
        made.unlink()  # of somebody who was killed
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
    with (
        path.open("rb") as source,
        os.fdopen(descriptor, "wb") as file,
        gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed,
    ):
        shutil.copyfileobj(source, packed)
        packed.close()
        os.fchmod(file.fileno(), MODE)
        file.flush()
        os.fsync(file.fileno())
    made.rename(whole)
    path.unlink()
