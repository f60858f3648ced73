"""The files into which workers count: those of dead ones become one, so that there are never many.

Whoever reads them all holds a lock with others who read; whoever merges holds it alone. Else a scrape between
two steps would find a count twice or not at all, which Prometheus takes for a restart.
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import contextmanager, suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING

from prometheus_client import multiprocess
from prometheus_client.mmap_dict import MmapedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_KINDS = ("counter", "histogram")
_DEAD = "dead"
_AGAIN_S = 0.002
_UNREADABLE = (ValueError, RuntimeError, struct.error)  # a worker makes its file, or was killed meanwhile


def read_from(folder: Path, read: Callable[[], bytes], *, within_s: float = 1.0) -> bytes:
    """What *read* gives, while no worker's files are merged. TimeoutError.

    A worker that has just begun makes its file in two steps; who reads between them reads again.
    """
    ending = monotonic() + within_s
    while True:
        try:
            with _locked(folder, fcntl.LOCK_SH, max(0.0, ending - monotonic())):
                return read()
        except _UNREADABLE:
            if monotonic() >= ending:
                raise
        sleep(_AGAIN_S)


class DeadWorkers:
    """Of one server, of whose files the master takes care."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pids: set[int] = set()

    def bury(self, pid: int, *, within_s: float = 0.5) -> None:
        """What the worker has counted stays, its gauges do not. What cannot be merged now is next time."""
        self._pids.add(pid)
        with suppress(TimeoutError, OSError), _locked(self._folder, fcntl.LOCK_EX, within_s):
            for dead in sorted(self._pids):
                multiprocess.mark_process_dead(dead, path=str(self._folder))  # type: ignore[no-untyped-call] # its types are partial
                for kind in _KINDS:
                    self._merge(kind, dead)
                self._pids.discard(dead)

    def _merge(self, kind: str, pid: int) -> None:
        own, all_dead = self._folder / f"{kind}_{pid}.db", self._folder / f"{kind}_{_DEAD}.db"
        together = all_dead.with_suffix(".new")
        together.unlink(missing_ok=True)
        sums: dict[str, float] = {}
        for file in (all_dead, own):
            with suppress(FileNotFoundError, *_UNREADABLE):
                for key, value, *_ in MmapedDict.read_all_values_from_file(file):  # type: ignore[no-untyped-call] # ditto
                    sums[key] = sums.get(key, 0.0) + value
        if sums:
            merged = MmapedDict(together)  # type: ignore[no-untyped-call] # ditto
            for key, value in sums.items():
                merged.write_value(key, value, 0.0)  # type: ignore[no-untyped-call] # ditto
            merged.close()  # type: ignore[no-untyped-call] # ditto
            together.replace(all_dead)
        own.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path, how: int, within_s: float) -> Iterator[None]:
    ending = monotonic() + within_s
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, how | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if monotonic() >= ending:
                    raise TimeoutError("the files of the workers are in use") from None
                sleep(_AGAIN_S)
        yield
    finally:
        os.close(descriptor)
